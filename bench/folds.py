"""Measures how many events a second the projections fold from a log that is there, all of them together and each alone.

The requests are of a few keys and models, with metadata and an origin, as an agent's are. Each has two events. CPU is
that of this process; the server's is beside it as what is left of the time.
"""

import argparse
import asyncio
import time
from datetime import UTC, datetime, timedelta

from domain.call_origin import Origin
from domain.events import CostIncurred, RequestCompleted, request_stream
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price, cost
from domain.tokens import TokenUsage
from infra.database import HeldConnection, open_pool
from infra.event_log import Commit, EventLog
from infra.ids import new_id
from projections.registry import FOLDED
from projections.runner import Runner
from tests.support import services

PRICE = Price(provider="openai", model="m", source="bench", prices=ClassPrices(input=1_000, output=2_000))
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-3.5-sonnet")
KEYS, TEAMS, SESSIONS = 12, 8, 200
WRITERS = 200


def commit(number: int, at: datetime) -> Commit:
    """The commit of one request."""
    request, usage = new_id("req"), TokenUsage(input=900 + number % 70, output=100 + number % 90)
    subject = {
        "request_id": request,
        "key_id": f"key_{number % KEYS}",
        "operation": "chat",
        "model": MODELS[number % len(MODELS)],
        "provider": "openai",
        "metadata": {"team": f"team {number % TEAMS}", "env": "production"},
        "origin": Origin(session=f"s{number % SESSIONS}", agent="cli", client="OpenAI/Python"),
        "attempt": 1,
        "upstream_model": "m",
    }
    breakdown = cost(usage, PRICE)
    completed = RequestCompleted(
        **subject,
        answered_by="m",
        response_id="r",
        finish_reason="stop",
        usage=usage,
        latency_ms=700 + number * 37 % 9_000,
        request_bytes=1,
        answer_bytes=1,
        answer_digest="00",
    )
    incurred = CostIncurred(
        **subject,
        cost_nano_usd=breakdown.total_nano_usd,
        price=PRICE,
        breakdown=breakdown,
        hold_nano_usd=NanoUsd(10**6),
        budget_day=at.date(),
    )
    stream = request_stream(request)
    return Commit(stream=stream, expected_version=0, project_id="prj_1", at=at, events=(completed, incurred))


async def measure(url: str, requests: int) -> None:
    pool = await open_pool(url, name="bench", size=4)
    log = EventLog(pool, HeldConnection(url, name="bench"))
    begins = datetime(2026, 3, 1, tzinfo=UTC)
    for first in range(0, requests, WRITERS):
        numbers = range(first, min(requests, first + WRITERS))
        await asyncio.gather(*(log.append(commit(n, begins + timedelta(seconds=n))) for n in numbers))
    for projections in ((*FOLDED,), *((one,) for one in FOLDED)):
        tables = [table for one in projections for table in one.tables]
        owner = await open_pool(services.as_role(url, services.OWNER), name="bench", size=1)
        await owner.execute(f"TRUNCATE {', '.join(tables)}, projection_checkpoints")
        await owner.close()
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await Runner(pool, log, projections).catch_up()
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        name = "all" if len(projections) > 1 else projections[0].name
        events = 2 * requests
        print(f"| {name} | {events / took_s:,.0f} | {cpu_s / events * 1e6:.1f} |", flush=True)
    await log.close()
    await pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    arguments = parser.parse_args()
    print("| projections | events a second | CPU µs an event, this process |\n|---|---|---|")
    with services.postgres() as server:
        services.make_template(server)
        with services.database(server) as url:
            asyncio.run(measure(url, arguments.requests))


if __name__ == "__main__":
    main()
