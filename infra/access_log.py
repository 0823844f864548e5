"""One line for each request on standard error, as JSON or for people; never content, never a key, never a path.

Lines are written together, a moment after the first of them. Those of a kind that strangers can cause without end (no
key, or more than a key's rate) have a limit for each minute; beyond it they are counted, and the count gets a line. A
process that is killed may lose the lines of that moment: the event log, not this, says what happened. The event loop
never waits for who reads them: lines that nobody takes are left out and counted.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import structlog
from msgspec import Struct

from domain.json_numbers import encode_lines
from domain.names import printable
from infra.line_writer import LineWriter
from infra.logging import SecretsHidden, written
from infra.settings import AccessLines, LogFormat

Limited = Literal["no_key", "rate_limited"]
WhyLeftOut = Limited | Literal["unread", "failed"]
"""Why a request has no line; beside those of which there are too many: nobody reads what is written, or it could not be
rendered.
"""
PROCESS = "api"
"""The only kind of process that answers requests."""
MINUTE_S = 60.0
FLUSH_S = 0.05
MAX_WAITING_LINES = 500
"""They are written at once."""
LINES_PER_MINUTE: Mapping[Limited, int] = {"no_key": 60, "rate_limited": 300}
"""Of requests that showed no valid key, and of those that a key made above its rate."""
log = structlog.get_logger(__name__)


class AccessLine(Struct, kw_only=True, omit_defaults=True, tag_field="event", tag="request"):
    """The line of one request. Absent: not known, or there is none."""

    level: Literal["info", "warning"]
    timestamp: datetime
    process: str
    request_id: str
    route: str
    status: int
    outcome: str | None = None
    """The error's code; absent: none."""
    key_id: str | None = None
    operation: str | None = None
    provider: str | None = None
    model: str | None = None
    """As the provider knows it."""
    stream: bool | None = None
    cache: str | None = None
    attempts: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: Decimal | None = None
    """What the caller is charged."""
    latency_ms: int
    """To the last byte."""
    first_byte_ms: int | None = None
    trace_id: str | None = None
    """As OpenTelemetry has it, if it is on."""
    span_id: str | None = None


class _LeftOut(Struct, kw_only=True, tag_field="event", tag="requests_not_listed"):
    """The line of those that have none."""

    level: Literal["warning"]
    timestamp: datetime
    process: str
    reason: Limited
    count: int


def _json(lines: Sequence[AccessLine | _LeftOut]) -> str:
    return encode_lines(lines).decode()


def _console(lines: Sequence[AccessLine | _LeftOut]) -> str:
    return "".join([f"{_for_people(line)}\n" for line in lines])


def _for_people(line: AccessLine | _LeftOut) -> str:
    """A line for people: what is known, in an order that the eye learns."""
    clock = f"{line.timestamp:%H:%M:%SZ}"
    if isinstance(line, _LeftOut):
        return f"{clock} {line.count} more requests were not listed ({line.reason.replace('_', ' ')})"
    parts = [clock, str(line.status), f"{line.route:<12}"]
    if line.provider is not None:
        parts.append(printable(f"{line.provider}/{line.model}"))
    if line.prompt_tokens is not None:
        parts.append(f"{line.prompt_tokens} + {line.completion_tokens} tokens")
    if line.cost_usd is not None:
        parts.append(f"${line.cost_usd:f}")
    parts.append(f"{line.latency_ms} ms")
    parts += [part for part in (line.cache, line.outcome, line.key_id) if part is not None]
    return "  ".join((*parts, line.request_id))


_RENDERERS: Mapping[LogFormat, Callable[[Sequence[AccessLine | _LeftOut]], str]] = {"json": _json, "console": _console}


class AccessLog:
    """Writes the access lines of one process, on its event loop."""

    def __init__(
        self,
        lines: AccessLines,
        log_format: LogFormat,
        *,
        secrets: Sequence[str] = (),
        writer: LineWriter | None = None,
        on_left_out: Callable[[WhyLeftOut], None] = lambda _: None,
        minute_s: float = MINUTE_S,
    ) -> None:
        """Write `lines` with `writer`; None: to standard error. `secrets` are texts that no line may have.

        `on_left_out` is called for each line that is left out.
        """
        self.lines = lines
        self._render = _RENDERERS[log_format]
        self._hide = SecretsHidden(written(secrets))
        self._writer = writer or LineWriter()
        self._on_left_out = on_left_out
        self._minute_s = minute_s
        self._waiting: list[AccessLine | _LeftOut] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._minutes: dict[Limited, _Minute] = {}

    def note(self, line: AccessLine, limited: Limited | None) -> None:
        """Write a line, a moment later. `limited`: of the kind of which there may be too many."""
        if limited is not None and not self._has_room(limited):
            self._on_left_out(limited)
            return
        self._add(line)

    def close(self) -> None:
        """Write what waits, and tell what was left out. Waits a moment until it is read."""
        for limited in list(self._minutes):
            self._end_minute(limited)
        self._flush()
        self._writer.close()

    def _has_room(self, limited: Limited) -> bool:
        minute = self._minutes.get(limited)
        if minute is None:
            ends = asyncio.get_running_loop().call_later(self._minute_s, self._end_minute, limited)
            minute = self._minutes[limited] = _Minute(ends)
        if minute.written < LINES_PER_MINUTE[limited]:
            minute.written += 1
            return True
        minute.left_out += 1
        return False

    def _end_minute(self, limited: Limited) -> None:
        minute = self._minutes.pop(limited)
        minute.ends.cancel()
        if minute.left_out:
            self._add(
                _LeftOut(
                    level="warning",
                    timestamp=datetime.now(UTC),
                    process=PROCESS,
                    reason=limited,
                    count=minute.left_out,
                )
            )

    def _add(self, line: AccessLine | _LeftOut) -> None:
        self._waiting.append(line)
        if len(self._waiting) >= MAX_WAITING_LINES:
            self._flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            text, lines = self._render(waiting), len(waiting)
        except Exception:  # noqa: BLE001 - a mistake of ours in one of them: the others are written
            rendered = [one for line in waiting if (one := self._rendered(line)) is not None]
            text, lines = "".join(rendered), len(rendered)
        if not self._writer.write(self._hide(None, "", text)):
            for _ in range(lines):
                self._on_left_out("unread")

    def _rendered(self, line: AccessLine | _LeftOut) -> str | None:
        """Return a line's text; None: it has none."""
        try:
            return self._render([line])
        except Exception:
            log.exception("access_line_failed")
            self._on_left_out("failed")
            return None


class _Minute(Struct):
    """A minute in which lines of a kind are limited, from the first of them on."""

    ends: asyncio.TimerHandle
    written: int = 0
    left_out: int = 0
