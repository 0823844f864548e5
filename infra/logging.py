"""Structured log lines on standard error: fixed event names, ids and figures; never content, never a key.

A library's exception may have a key in its text: what a process knows to be secret is taken out of every line.
"""

import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import structlog
from msgspec import Struct

from domain.names import printable
from infra.settings import LogFormat, LogLevel

HIDDEN = "…"
OUTAGE_S = 30.0
"""Losses of a server with less time between them are one outage."""


class SecretsHidden(Struct, frozen=True):
    """The last processor of a line: takes the secrets of the process's settings out of it."""

    secrets: Sequence[str]

    def __call__(self, _logger: Any, _method: str, line: Any) -> Any:
        """Return the line without them."""
        for secret in self.secrets:
            line = line.replace(secret, HIDDEN)
        return line


def configure_logging(
    log_format: LogFormat, *, process: str, secrets: Sequence[str] = (), level: LogLevel | None = None
) -> None:
    """Configure structlog and the standard library's loggers for this process. Libraries log from warnings on.

    The process's own lines are written from `level` on; None: from info on.

    `secrets` are texts that no line may have.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # the default shows every variable
        )
    )
    finish: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, renderer] if log_format == "json" else [_printable, renderer]
    )
    finish.append(SecretsHidden(written(secrets)))
    structlog.configure(
        processors=[*shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(level or "info"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("asyncpg.pool").addFilter(OneLineAnOutage())


class OneLineAnOutage(logging.Filter):
    """Of a library's lines about a server that is away, one each second and some with a trace: lets one pass for an
    outage.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last_s = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a line pass that is the first for `OUTAGE_S`, without its trace."""
        now_s, before_s = time.monotonic(), self._last_s
        self._last_s = now_s
        if record.exc_info is not None:
            record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]!r}", ()
            record.exc_info = record.exc_text = None
        return now_s - before_s > OUTAGE_S


def written(secrets: Sequence[str]) -> tuple[str, ...]:
    """Return texts as a line may have them, the longest first: one may have another in it."""
    forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1], printable(secret, keep="\n\t"))}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _printable(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what could steer a terminal; JSON needs it not."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, keep="\n\t")
    return event
