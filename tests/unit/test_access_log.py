"""A request's access line says what became of it, has no secret, and strangers cannot fill a disk with them."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from api.metrics import Metrics
from api.request_facts import RequestFacts, facts_of
from api.request_lifetime import BYTES_SCOPE, RequestLifetime, note_failure
from domain.errors import ProviderTimeout, Unauthorized
from domain.job_result import Receipt
from domain.money import NanoUsd
from domain.tokens import TokenUsage
from infra.access_log import LINES_PER_MINUTE, MAX_WAITING_LINES, PROCESS, AccessLine, AccessLog
from infra.line_writer import LineWriter
from infra.settings import AccessLines, LogFormat
from tests.support.waiting import eventually_so

SECRET = "sk-a-secret-of-the-settings"
AT = datetime(2026, 11, 26, 6, 5, 38, tzinfo=UTC)
RECEIPT = Receipt(
    provider="openai",
    upstream_model="gpt-4o-mini",
    usage=TokenUsage(input=20, cache_read=5, output=8),
    cost_nano_usd=NanoUsd(8_550),
    answered_at=AT,
)


class Written(LineWriter):
    """What an access log has written."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.left_out = 0
        self.is_read = True

    def log(self, lines: AccessLines = "all", log_format: LogFormat = "json", *, minute_s: float = 60) -> AccessLog:
        return AccessLog(
            lines,
            log_format,
            secrets=[SECRET],
            writer=self,
            on_left_out=lambda _: self._count(),
            minute_s=minute_s,
        )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_float=Decimal) for line in self.text.splitlines()]

    def write(self, text: str) -> bool:
        if self.is_read:
            self.text += text
        return self.is_read

    def _count(self) -> None:
        self.left_out += 1


def line(**fields: Any) -> AccessLine:
    known = {"level": "info", "timestamp": AT, "process": PROCESS, "request_id": "req_1", "route": "chat"}
    return AccessLine(**known | {"status": 200, "latency_ms": 450} | fields)


async def answer(
    log: AccessLog,
    path: str,
    status: int,
    *,
    has_key: bool = True,
    fails: Exception | None = None,
    viewer: str | None = None,
) -> None:
    """Have a request answered, as the application does it."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        facts = facts_of(scope)
        if has_key:
            scope[BYTES_SCOPE] = "counted"
            facts.key_id = "key_1"
        if status == 200 and has_key:
            facts.asked("chat", provider="openai", model="gpt-4o-mini", is_stream=False)
            facts.cache, facts.attempts = "miss", 2
            facts.answered_by(RECEIPT, RECEIPT.cost_nano_usd)
        if viewer is not None:
            scope["user"] = viewer
        if fails is not None:
            await note_failure(fails, scope)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})

    async def send(_message: Any) -> None:
        await asyncio.sleep(0)

    event_log: Any = type("Log", (), {"newest_position": None})
    scope: Any = {"type": "http", "path": path}
    await RequestLifetime(app, Metrics(), event_log, log)(scope, send, send)  # type: ignore[arg-type]  # the app reads nothing


async def test_a_line_says_who_answered_what_it_cost_and_how_long_it_took() -> None:
    written = Written()
    log = written.log()
    await answer(log, "/api/v1/completions/chat", 200)
    log.close()
    (found,) = written.lines()
    assert found.pop("request_id").startswith("req_")
    assert found.pop("timestamp").endswith("Z")
    assert isinstance(found.pop("latency_ms"), int)
    assert found == {
        "event": "request",
        "level": "info",
        "process": "api",
        "route": "chat",
        "status": 200,
        "key_id": "key_1",
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "cache": "miss",
        "attempts": 2,
        "prompt_tokens": 25,
        "completion_tokens": 8,
        "cost_usd": Decimal("0.00000855"),
    }


async def test_a_line_names_the_error_and_the_provider_that_it_is_of() -> None:
    written = Written()
    log = written.log()
    error = ProviderTimeout("slow", provider="anthropic")
    error.attempts, error.upstream_model = 3, "claude-x"
    await answer(log, "/v1/messages", 504, fails=error)
    log.close()
    (found,) = written.lines()
    assert (found["level"], found["route"], found["outcome"]) == ("warning", "anthropic-messages", "PROVIDER_TIMEOUT")
    assert (found["provider"], found["model"], found["attempts"]) == ("anthropic", "claude-x", 3)


async def test_strangers_get_a_limited_number_of_lines_and_whoever_has_a_key_is_listed_all_the_same() -> None:
    written = Written()
    log = written.log(minute_s=3_600)
    for _ in range(LINES_PER_MINUTE["no_key"] + 40):
        await answer(log, "/v1/chat/completions", 401, has_key=False, fails=Unauthorized("no such key"))
    await answer(log, "/v1/chat/completions", 200)
    log.close()
    statuses = Counter(found["status"] for found in written.lines() if found["event"] == "request")
    assert statuses == {401: LINES_PER_MINUTE["no_key"], 200: 1}
    (told,) = (found for found in written.lines() if found["event"] == "requests_not_listed")
    assert (told["reason"], told["count"], written.left_out) == ("no_key", 40, 40)


async def test_when_the_minute_is_over_the_count_is_told_and_there_is_room_again() -> None:
    written = Written()
    log = written.log(minute_s=0.05)
    for _ in range(LINES_PER_MINUTE["rate_limited"] + 2):
        log.note(line(status=429), "rate_limited")

    async def is_told() -> bool:
        return '"count":2' in written.text

    await eventually_so(is_told, within_s=30)
    log.note(line(status=429, request_id="req_after"), "rate_limited")
    log.close()
    assert "req_after" in written.text


async def test_pages_of_somebody_who_has_signed_in_have_no_line_and_count_as_the_dashboard() -> None:
    written = Written()
    log = written.log()
    await answer(log, "/", 200, has_key=False, viewer="somebody")
    await answer(log, "/", 500, has_key=False, viewer="somebody")
    log.close()
    assert [(found["route"], found["status"]) for found in written.lines()] == [("dashboard", 500)]


async def test_a_page_that_asked_a_model_has_the_line_of_its_call() -> None:
    written = Written()
    log = written.log()
    await answer(log, "/connect", 200, viewer="somebody")
    log.close()
    (found,) = written.lines()
    assert (found["route"], found["key_id"], found["model"]) == ("dashboard", "key_1", "gpt-4o-mini")
    assert found["cost_usd"] == Decimal("0.00000855")


async def test_what_watches_the_gateway_has_no_line_unless_it_fails() -> None:
    written = Written()
    log = written.log()
    for path in ("/health/live", "/health/ready", "/metrics"):
        await answer(log, path, 200, has_key=False)
    await answer(log, "/health/ready", 503, has_key=False)
    log.close()
    assert [(found["route"], found["status"]) for found in written.lines()] == [("health", 503)]


@pytest.mark.parametrize(("lines", "statuses"), [("all", [200, 402]), ("failures", [402]), ("none", [])])
async def test_the_setting_chooses_the_lines(lines: AccessLines, statuses: list[int]) -> None:
    written = Written()
    log = written.log(lines)
    await answer(log, "/api/v1/completions/chat", 200)
    await answer(log, "/api/v1/completions/chat", 402)
    log.close()
    assert [found["status"] for found in written.lines()] == statuses


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_line_has_a_secret_or_a_character_that_steers_a_terminal(log_format: LogFormat) -> None:
    written = Written()
    log = written.log(log_format=log_format)
    log.note(line(provider="openai", model=f"{SECRET}\x1b[2J\n"), None)
    log.close()
    assert written.text.count("\n") == 1
    assert "…" in written.text
    assert SECRET not in written.text
    assert "\x1b" not in written.text


async def test_lines_are_written_together_a_moment_later() -> None:
    written = Written()
    log = written.log(log_format="console")
    log.note(line(provider="echo", model="echo", prompt_tokens=3, completion_tokens=4, cost_usd=Decimal("0.01")), None)
    log.note(line(route="native", key_id="key_1"), None)
    assert written.text == ""

    async def is_written() -> bool:
        return bool(written.text)

    await eventually_so(is_written, within_s=30)
    assert written.text.splitlines() == [
        "06:05:38Z  200  chat          echo/echo  3 + 4 tokens  $0.01  450 ms  req_1",
        "06:05:38Z  200  native        450 ms  key_1  req_1",
    ]


async def test_lines_that_nobody_reads_are_counted_and_those_after_them_are_written() -> None:
    written = Written()
    log = written.log()
    written.is_read = False
    for _ in range(MAX_WAITING_LINES):
        log.note(line(), None)
    assert (written.text, written.left_out) == ("", MAX_WAITING_LINES)
    written.is_read = True
    log.note(line(request_id="req_after"), None)
    log.close()
    assert [found["request_id"] for found in written.lines()] == ["req_after"]


async def test_a_line_that_cannot_be_made_takes_no_other_with_it() -> None:
    written = Written()
    log = written.log()
    log.note(line(request_id="req_before"), None)
    log.note(line(model="\ud800"), None)
    log.note(line(request_id="req_after"), None)
    log.close()
    assert [found["request_id"] for found in written.lines()] == ["req_before", "req_after"]
    assert written.left_out == 1


def test_a_request_without_a_connection_has_facts_of_its_own() -> None:
    assert facts_of({}) == RequestFacts()
