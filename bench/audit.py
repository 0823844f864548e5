"""Measures what the audit of a long log costs: `verify`, `balance`, a page of events for each filter, and the export.

Fills a database of its own with requests of two events, the chain over batches of 100, and every thousandth event of a
kind that is rare. Times are of this process's CPU and of the clock.
"""

import argparse
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvloop

from bench.server_time import Server
from domain.events import ApiKeyIssued, CostIncurred, Event, RequestCompleted, request_stream
from domain.log_head import GENESIS
from infra.collection import collect_rarely
from infra.database import HeldConnection, Pool, open_pool
from infra.event_log import Commit, EventLog, sealed_events
from infra.log_selection import Selection
from infra.log_verification import verify
from infra.raw_events import export_line, raw_batches
from tests.support import services
from tests.support.services import as_role

BATCH_EVENTS = 100
COPY_EVENTS = 20_000
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
PROJECTS = 20
_SAMPLES = Path(__file__).parent.parent / "tests" / "golden" / "events"


def sample(kind: type[Event]) -> Event:
    """Return the golden event of a kind."""
    event: Event = msgspec.json.decode((_SAMPLES / f"{kind.__name__}.json").read_bytes(), type=kind)
    return event


def commits(events: int) -> Iterator[Commit]:
    """Yield commits with as many events as are asked for."""
    request, rare = (sample(RequestCompleted), sample(CostIncurred)), sample(ApiKeyIssued)
    number, left = 0, events
    while left > 0:
        number += 1
        at, project = FIRST + timedelta(seconds=number), f"prj_{number % PROJECTS:026}"
        if number % 500 == 0:
            yield Commit(stream=f"key-{number}", expected_version=0, project_id=project, at=at, events=(rare,))
            left -= 1
            continue
        stream = request_stream(f"req_{number:026}")
        yield Commit(stream=stream, expected_version=0, project_id=project, at=at, events=request)
        left -= len(request)


async def fill(owner: asyncpg.Connection, commits: Iterable[Commit]) -> int:
    """Write an empty log past the appender, as the appender would have. Return its head."""
    rows: list[tuple[Any, ...]] = []
    position, chain, batch, in_batch = 0, GENESIS, hashlib.sha256(GENESIS), 0
    columns = ["position", "stream", "version", "type", "project_id", "at", "data", "digest", "chain"]
    for commit in commits:
        for event in sealed_events(commit):
            position, in_batch = position + 1, in_batch + 1
            batch.update(event[-1])
            closed = None
            if in_batch >= BATCH_EVENTS:
                closed = chain = batch.digest()
                batch, in_batch = hashlib.sha256(chain), 0
            rows.append((position, *event, closed))
        if len(rows) > COPY_EVENTS:  # the last one is kept: it may become the last of all
            await owner.copy_records_to_table("events", records=rows[:-1], columns=columns)
            rows = rows[-1:]
    if in_batch:
        chain = batch.digest()
        rows[-1] = (*rows[-1][:-1], chain)
    await owner.copy_records_to_table("events", records=rows, columns=columns)
    await owner.execute("UPDATE log_head SET position = $1, digest = $2", position, chain)
    await owner.execute("VACUUM ANALYZE events")
    return position


async def timed(server: Server, name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Print what a piece of work takes."""
    result, taken = await server.timed(work)
    figures = " | ".join(f"{seconds * 1000:,.1f}" for seconds in taken)
    print(f"| {name} | {figures} | {result} |", flush=True)


async def measure(url: str, events: int, pages_only: bool) -> None:
    """Fill the database and print the table."""
    owner = await asyncpg.connect(as_role(url, services.OWNER), command_timeout=600)
    head = await fill(owner, commits(events))
    await owner.close()
    pool = await open_pool(url, name="bench", size=4)
    log = EventLog(pool, HeldConnection(url, name="bench"))
    server = await Server.of(pool)
    print("| what | ms | ms of CPU here | ms of CPU of PostgreSQL | result |\n|---|---|---|---|---|")
    if not pages_only:
        for _ in range(2):
            await timed(server, "verify", lambda: verified(pool))
        await timed(server, "export", lambda: exported(pool))
    middle = FIRST + timedelta(seconds=events // 4)
    hour, of_project = Selection(since=middle, until=middle + timedelta(hours=1)), f"prj_{3:026}"
    for name, selection, after in (
        ("first page of all", Selection(), 0),
        ("a page of a project in the middle", Selection(project_id=of_project), head // 2),
        ("a stream", Selection(stream=request_stream(f"req_{events // 4 + 1:026}")), 0),
        ("a rare type", Selection(type="ApiKeyIssued"), 0),
        ("a type that there is not", Selection(type="RouteSet"), 0),
        ("a rare type of a project", Selection(type="ApiKeyIssued", project_id=f"prj_{0:026}"), 0),
        ("a frequent type", Selection(type="CostIncurred"), head // 2),
        ("from a time on", Selection(since=middle), 0),
        ("an hour", hour, 0),
        ("an hour of a project", msgspec.structs.replace(hour, project_id=of_project), 0),
        ("before the first", Selection(until=FIRST), 0),
    ):
        for _ in range(8):  # from the sixth run on the server may choose a generic plan
            await log.read_selected(selection, after=after, limit=100)
        await timed(
            server, f"page: {name}", lambda s=selection, a=after: count(log.read_selected(s, after=a, limit=100))
        )
    await log.close()
    await pool.close()


async def count(page: Awaitable[list[Any]]) -> int:
    """Return the number of events of a page."""
    return len(await page)


async def verified(pool: Pool) -> object:
    """Verify the log."""
    found = await verify(pool)
    assert found.first_bad is None, found.reason
    return found.events


async def exported(pool: Pool) -> int:
    """Read the log as an export does."""
    return sum([len([export_line(event) for event in batch]) async for batch in raw_batches(pool)])


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--pages-only", action="store_true")
    arguments = parser.parse_args()
    with services.postgres() as server:
        services.make_template(server)
        with services.database(server) as url:
            collect_rarely()  # as the processes do
            uvloop.run(measure(url, arguments.events, arguments.pages_only))


if __name__ == "__main__":
    main()
