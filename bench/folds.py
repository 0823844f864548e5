"""Measures how many events a second the projections fold from a log that is there: together, each alone, and rebuilt.

The requests are of a few keys and models, with metadata and an origin, as an agent's are. Each has two events.
"""

import argparse
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import psutil
import uvloop

from bench.audit import fill
from bench.server_time import Server, Taken
from domain.call_origin import Origin
from domain.events import CostIncurred, RequestCompleted, request_stream
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price, cost
from domain.tokens import TokenUsage
from infra.collection import collect_rarely
from infra.database import HeldConnection, Pool, open_pool
from infra.event_log import Commit, EventLog
from infra.ids import new_id
from projections.projection import Projection
from projections.rebuild import rebuild
from projections.registry import FOLDED
from projections.runner import BATCH_EVENTS, Runner
from tests.support import services

PRICE = Price(provider="openai", model="m", source="bench", prices=ClassPrices(input=1_000, output=2_000))
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-3.5-sonnet")
KEYS, TEAMS, SESSIONS = 12, 8, 200


def commits(requests: int) -> Iterator[Commit]:
    """The commits of requests that come one a second."""
    begins = datetime(2026, 3, 1, tzinfo=UTC)
    return (commit(number, begins + timedelta(seconds=number)) for number in range(requests))


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


class Measurement:
    """A log, and what folds it."""

    def __init__(self, url: str, pool: Pool, server: Server, events: int) -> None:
        self._url, self._pool, self._server, self._events = url, pool, server, events
        self._log = EventLog(pool, HeldConnection(url, name="bench"))

    async def fold(self, name: str, projections: Sequence[Projection], batch_events: int) -> None:
        """Fold the whole log, as the projector does."""
        tables = [table for one in projections for table in one.tables]
        owner = await asyncpg.connect(services.as_role(self._url, services.OWNER))
        await owner.execute(f"TRUNCATE {', '.join(tables)}, projection_checkpoints")
        await owner.close()
        _, taken = await self._server.timed(
            Runner(self._pool, self._log, projections, batch_events=batch_events).catch_up
        )
        self._show(name, taken)

    async def rebuild(self, projection: Projection) -> None:
        """Rebuild a projection that is folded to the end."""
        owner = await open_pool(services.as_role(self._url, services.OWNER), name="bench", size=4)
        log = EventLog(owner, HeldConnection(self._url, name="bench"))
        _, taken = await self._server.timed(lambda: rebuild(owner, log, projection))
        self._show(f"rebuild of {projection.name}", taken)
        await log.close()
        await owner.close()

    def _show(self, name: str, taken: Taken) -> None:
        here, server = (seconds / self._events * 1e6 for seconds in taken[1:])
        load = psutil.getloadavg()[0]
        print(f"| {name} | {self._events / taken.clock_s:,.0f} | {here:.1f} | {server:.1f} | {load:.0f} |", flush=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._log.close()
        await self._pool.close()


async def measure(url: str, arguments: argparse.Namespace) -> None:
    """Fill the log and print the table."""
    owner = await asyncpg.connect(services.as_role(url, services.OWNER), command_timeout=600)
    events = await fill(owner, commits(arguments.requests))
    await owner.close()
    pool = await open_pool(url, name="bench", size=4)
    measurement = Measurement(url, pool, await Server.of(pool), events)
    for batch_events in arguments.batches:
        await measurement.fold(f"all, batches of {batch_events:,}", FOLDED, batch_events)
    named = [projection for projection in FOLDED if projection.name in arguments.projections]
    for projection in named if not arguments.no_rebuild else ():
        await measurement.rebuild(projection)
    for projection in named if arguments.each else ():
        await measurement.fold(projection.name, (projection,), BATCH_EVENTS)
    await measurement.close()


def main() -> None:
    """Run the measurement."""
    names = [projection.name for projection in FOLDED]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--batches", type=int, nargs="+", default=[200, BATCH_EVENTS], help="events in a batch")
    parser.add_argument("--projections", nargs="+", choices=names, default=names)
    parser.add_argument("--each", action="store_true", help="fold each alone too")
    parser.add_argument("--no-rebuild", action="store_true")
    arguments = parser.parse_args()
    print("| what | events a second | CPU µs an event, this process | CPU µs an event, PostgreSQL | load |")
    print("|---|---|---|---|---|", flush=True)
    with services.postgres() as server:
        services.make_template(server)
        with services.database(server) as url:
            collect_rarely()  # as the processes do
            uvloop.run(measure(url, arguments))


if __name__ == "__main__":
    main()
