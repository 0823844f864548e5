"""The figures, access lines, dashboards and alerts of a running gateway, as those who watch it see them."""

import asyncio
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from deploy.dashboards import DASHBOARDS, dashboard
from tests.support.gateway import Client, Gateway, new_project
from tests.support.prometheus_server import ALERT_CASES, ALERTS, Prometheus, PrometheusMissingError, promtool
from tests.support.waiting import eventually, eventually_so

CONTENT = "a-prompt-that-no-line-has"
GATEWAY_PROCESSES = {"api-1", "api-2", "worker-1", "worker-2", "projector"}
NEVER_HERE = {"GatewayNoProjector", "GatewayPartAway", "GatewayProcessAway", "GatewayLogHead", "GatewayProjectorLags"}
"""Alerts that nothing in the tests of this gateway is a reason for."""
MISSES, HITS, STREAMS = 6, 2, 2
IS_EMPTY = re.compile(
    r"circuit|retries|left: |unpriced|over_hold|assumed|settled|refusals|saved_usd_total|lost_caller_left"
)
"""Panels of what has not happened here. Their queries are run as all others."""


class Watched(Struct, frozen=True):
    """A gateway with two API processes that has answered some requests."""

    gateway: Gateway
    client: Client
    answered: list[tuple[str, str]]
    """The id and the cost of each answer in one piece, as its headers have them."""

    async def samples(self, session: aiohttp.ClientSession) -> list[Any]:
        async with session.get(f"{self.gateway.address}/metrics") as answer:
            assert answer.status == 200
            text = await answer.text()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    async def total(self, session: aiohttp.ClientSession, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        return sum(
            sample.value
            for sample in await self.samples(session)
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
async def watched(gateway: Gateway, session: aiohttp.ClientSession) -> Watched:
    client = await new_project(gateway, session)
    answered = []
    for number in [*range(MISSES), *range(HITS)]:
        status, _, headers = await client.chat(f"{CONTENT} {number}")
        assert status == 200
        answered.append((headers["x-request-id"], headers["x-gateway-cost-usd"]))
    for number in range(STREAMS):
        body = {"model": "claude-3-haiku", "stream": True, "max_tokens": 50}
        body |= {"messages": [{"role": "user", "content": f"{CONTENT} {number}"}]}
        headers = {"Authorization": f"Bearer {client.key}"}
        async with session.post(f"{gateway.address}/v1/messages", json=body, headers=headers) as answer:
            assert answer.status == 200
            assert b"message_stop" in await answer.read()
    return Watched(gateway, client, answered)


async def test_one_page_has_the_figures_of_all_processes_whichever_answers(
    watched: Watched, session: aiohttp.ClientSession
) -> None:
    ups = {sample.labels["process"] for sample in await watched.samples(session) if sample.name == "gateway_process_up"}
    assert ups == GATEWAY_PROCESSES
    before = await watched.total(session, "gateway_requests_total", route="chat", status="200")
    for number in range(6):
        assert (await watched.client.chat(f"more {number}"))[0] == 200
    for _ in range(8):  # the two processes share the port: one or the other answers
        after = await watched.total(session, "gateway_requests_total", route="chat", status="200")
        assert after == before + 6
    first_tokens = {"operation": "chat", "provider": "anthropic"}
    assert await watched.total(session, "gateway_time_to_first_token_seconds_count", **first_tokens) >= STREAMS
    assert await watched.total(session, "gateway_cache_requests_total", result="hit") >= HITS


async def test_what_is_counted_is_what_the_log_says_to_the_nano_dollar(
    watched: Watched, session: aiohttp.ClientSession
) -> None:
    async def is_folded() -> bool:
        lags = [one for one in await watched.samples(session) if one.name == "gateway_projection_lag_events"]
        return bool(lags) and all(lag.value == 0 for lag in lags)

    async def both() -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return what was counted and what the log says: nano-dollars, tokens of output, answers in one piece."""
        events = [json.loads(line) for line in watched.gateway.run("replay", "--json").stdout.splitlines()]
        costs = [one["event"] for one in events if one["type"] in ("CostIncurred", "CostReconciled")]
        answers = [one["event"] for one in events if one["type"] == "RequestCompleted"]
        usages = [one["usage"] for one in (*answers, *costs) if one.get("usage")]
        assert len(costs) >= MISSES + STREAMS
        counted = (
            round(await watched.total(session, "gateway_cost_usd_total") * 1e9),
            await watched.total(session, "gateway_tokens_total", **{"class": "output"}),
            await watched.total(session, "gateway_attempts_total", outcome="answered"),
        )
        logged = (
            sum(one["cost_nano_usd"] or 0 for one in costs),
            sum(usage.get("output", 0) for usage in usages),
            len(answers),
        )
        return counted, logged

    await eventually_so(is_folded, within_s=60)
    for _ in range(20):
        counted, logged = await both()
        if counted == logged:  # nothing was added between: other tests' late answers are counted as well
            break
        await asyncio.sleep(1)
    assert counted == logged


async def test_each_request_has_one_line_with_its_cost_and_without_its_content(
    watched: Watched, session: aiohttp.ClientSession
) -> None:
    headers = {"Authorization": "Bearer gw_live_nobody"}
    async with session.post(f"{watched.gateway.address}/v1/messages", json={}, headers=headers) as answer:
        assert answer.status == 401
        refused = answer.headers["x-request-id"]

    def lines() -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for text in re.findall(r'^api-\d +\| (\{"event":"request".*\})$', watched.gateway.errors(), re.MULTILINE):
            line = json.loads(text, parse_float=Decimal)
            found.setdefault(line["request_id"], []).append(line)
        return found

    await eventually(lambda: refused in lines())
    found = lines()
    for request_id, cost in watched.answered:
        (line,) = found[request_id]
        assert Decimal(line["cost_usd"]) == Decimal(cost)
        assert (line["status"], line["route"], line["model"]) == (200, "chat", "gpt-4o-mini")
        assert line["key_id"].startswith("key_")
        assert line["cache"] in ("miss", "hit")
    (line,) = found[refused]
    assert (line["status"], line["outcome"], "key_id" in line) == (401, "UNAUTHORIZED", False)
    key_id = found[watched.answered[0][0]][0]["key_id"]  # others use this gateway as well, and break streams off
    streams = [line for (line,) in found.values() if line.get("stream") and line.get("key_id") == key_id]
    assert all(line["completion_tokens"] > 0 and line["first_byte_ms"] <= line["latency_ms"] for line in streams)
    assert len(streams) >= STREAMS
    errors = watched.gateway.errors()
    assert CONTENT not in errors
    assert str(watched.client.key) not in errors


def test_alerts_are_silent_while_all_is_well_and_fire_for_what_they_are_there_for() -> None:
    try:
        checked, tested = promtool("check", "rules", str(ALERTS)), promtool("test", "rules", str(ALERT_CASES))
    except PrometheusMissingError as why:
        pytest.skip(str(why))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert tested.returncode == 0, tested.stdout + tested.stderr


async def test_prometheus_reads_the_page_and_every_panel_and_alert_has_an_answer(
    watched: Watched, tmp_path: Path
) -> None:
    target = watched.gateway.address.removeprefix("http://")
    try:
        prometheus = Prometheus.start(tmp_path / "prometheus", target)
    except PrometheusMissingError as why:
        pytest.skip(str(why))
    try:
        await eventually(prometheus.is_ready, within_s=60)
        rated = 'sum(rate(gateway_tokens_total{class="cache_read"}[30s])) > 0'
        number = 0

        async def has_rates() -> bool:
            nonlocal number
            number += 1
            await watched.client.chat(f"{CONTENT} while it is scraped {number} [[cached=8]]")
            return bool(prometheus.query(rated))

        await eventually_so(has_rates, within_s=60)
        for name in DASHBOARDS:
            for panel in dashboard(name)["panels"]:
                for query in panel["targets"]:
                    found = prometheus.query(query["expr"])
                    known = f"{query['expr']} {query['legendFormat']}"
                    assert found or IS_EMPTY.search(known), f"{panel['title']}: {query['expr']}"

        async def has_evaluated() -> bool:
            return all(rule["health"] == "ok" for rule in prometheus.rules())

        await eventually_so(has_evaluated, within_s=60)
        firing = {rule["name"] for rule in prometheus.rules() if rule["state"] == "firing"}
        assert firing.isdisjoint(NEVER_HERE)
    finally:
        prometheus.stop()
