"""The log on PostgreSQL: gapless, append-only, and verifiable."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from domain.events import INSTALLATION, ProjectCreated
from infra.database import Connection, HeldConnection, OutcomeUnknown, Pool
from infra.event_log import Blob, Commit, Conflict, EventLog
from infra.log_selection import Selection
from infra.log_verification import verify
from tests.support.ledger import RealLedger

AT = datetime(2026, 3, 1, tzinfo=UTC)


def commit(stream: str, version: int = 0, *names: str, blobs: tuple[Blob, ...] = ()) -> Commit:
    events = tuple(ProjectCreated(name=name) for name in names or ("one",))
    return Commit(stream=stream, expected_version=version, project_id=INSTALLATION, at=AT, events=events, blobs=blobs)


@pytest.fixture
async def other(database_url: str, ledger: RealLedger) -> AsyncIterator[EventLog]:
    """Return a second appender, like another process's."""
    log = EventLog(ledger.pool, HeldConnection(database_url, name="other"))
    yield log
    await log.close()


async def positions(ledger: RealLedger) -> list[int]:
    return [row["position"] for row in await ledger.pool.fetch("SELECT position FROM events ORDER BY position")]


async def test_positions_have_no_gaps_under_two_appenders(ledger: RealLedger, other: EventLog) -> None:
    logs = (ledger.log, other)
    landed = await asyncio.gather(*(logs[n % 2].append(commit(f"s-{n}", 0, *["x"] * (1 + n % 3))) for n in range(200)))
    assert await positions(ledger) == list(range(1, 1 + sum(1 + n % 3 for n in range(200))))
    assert len(set(landed)) == 200
    assert max(landed) == await ledger.log.head()
    assert (await verify(ledger.pool)).first_bad is None


async def test_a_conflicting_commit_loses_alone(ledger: RealLedger) -> None:
    await ledger.log.append(commit("taken"))
    outcomes = await asyncio.gather(
        *(ledger.log.append(commit("taken" if n == 5 else f"s-{n}", 0, "a", "b")) for n in range(10)),
        return_exceptions=True,
    )
    lost = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
    assert lost == [5]
    assert isinstance(outcomes[5], Conflict)
    assert await positions(ledger) == list(range(1, 20))
    assert (await verify(ledger.pool)).first_bad is None


async def test_of_two_appends_to_one_version_one_succeeds(ledger: RealLedger, other: EventLog) -> None:
    for n in range(20):
        outcomes = await asyncio.gather(
            ledger.log.append(commit("contested", n)), other.append(commit("contested", n)), return_exceptions=True
        )
        assert sorted(isinstance(outcome, Conflict) for outcome in outcomes) == [False, True]
    assert [one.version for one in await ledger.log.read_stream("contested")] == list(range(1, 21))


async def test_without_the_version_check_both_would_be_appended(ledger: RealLedger, other: EventLog) -> None:
    await ledger.owner.execute("ALTER TABLE events DROP CONSTRAINT events_stream_version_key")
    with pytest.raises(AssertionError):
        await test_of_two_appends_to_one_version_one_succeeds(ledger, other)


async def test_blobs_land_with_their_commit_or_not_at_all(ledger: RealLedger) -> None:
    def blob(name: str) -> Blob:
        return Blob(blob_id=name, project_id=INSTALLATION, body=b"sealed", expires_at=AT)

    await ledger.log.append(commit("taken"))
    await asyncio.gather(
        ledger.log.append(commit("fresh", blobs=(blob("kept"),))),
        ledger.log.append(commit("taken", blobs=(blob("lost"),))),
        return_exceptions=True,
    )
    assert await ledger.log.read_blob("kept") == b"sealed"
    assert await ledger.log.read_blob("lost") is None


@pytest.mark.parametrize(
    "statement",
    ["UPDATE events SET data = '{}' WHERE position = 1", "DELETE FROM events", "TRUNCATE events"],
)
async def test_existing_values_are_not_rewritten(ledger: RealLedger, statement: str) -> None:
    await ledger.log.append(commit("s"))
    with pytest.raises(asyncpg.PostgresError, match="never rewritten"):
        await ledger.owner.execute(statement)
    assert len(await ledger.log.read_after(0)) == 1


@pytest.mark.parametrize(
    "tampering",
    [
        """UPDATE events SET data = '{"name":"another"}' WHERE position = 7""",
        "UPDATE events SET at = at + interval '1 day' WHERE position = 7",
        "UPDATE events SET project_id = 'prj_other' WHERE position = 7",
        "UPDATE events SET digest = sha256('x') WHERE position = 7",
        "DELETE FROM events WHERE position = 7",
        "DELETE FROM events WHERE position > 7",
    ],
)
async def test_a_tampered_event_is_found(ledger: RealLedger, tampering: str) -> None:
    for n in range(12):
        await ledger.log.append(commit(f"s-{n}"))
    assert (await verify(ledger.pool)).first_bad is None
    async with ledger.owner.acquire() as superuser:
        await superuser.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await superuser.execute(tampering)
        await superuser.execute("ALTER TABLE events ENABLE TRIGGER USER")
    found = await verify(ledger.pool)
    assert found.first_bad in (7, 8)
    assert found.reason


async def test_forged_event_breaks_the_chain(ledger: RealLedger) -> None:
    for n in range(5):
        await ledger.log.append(commit(f"s-{n}"))
    async with ledger.owner.acquire() as superuser:
        await superuser.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await superuser.execute(
            "UPDATE events e SET data = o.data, stream = 's-x', digest = o.digest FROM events o "
            "WHERE e.position = 3 AND o.position = 4"
        )
    assert (await verify(ledger.pool)).first_bad == 3


async def test_append_on_a_dead_connection_is_in_doubt(ledger: RealLedger) -> None:
    await ledger.log.append(commit("before"))
    async with ledger.owner.acquire() as blocker, blocker.transaction():
        await blocker.execute("SELECT position FROM log_head FOR UPDATE")
        waiting = asyncio.create_task(ledger.log.append(commit("during")))
        await _kill_blocked_backend(ledger.pool)
        with pytest.raises(OutcomeUnknown):
            await waiting
    assert ledger.log.unknown_outcomes == 1
    assert await ledger.log.append(commit("after")) == 2


async def test_an_append_is_undone_if_its_side_effect_fails(ledger: RealLedger) -> None:
    async def fail(_connection: Connection) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await ledger.log.append_with([commit("s")], fail)
    assert await ledger.log.head() == 0
    assert await ledger.log.append(commit("s")) == 1


async def test_a_selection_has_the_matching_events(ledger: RealLedger) -> None:
    await ledger.log.append(commit("a", 0, "x", "y"))
    await ledger.log.append(commit("b"))
    chosen = await ledger.log.read_selected(Selection(stream="a"), after=1, limit=10)
    assert [one.position for one in chosen] == [2]
    assert await ledger.log.read_selected(Selection(until=AT), after=0, limit=10) == []
    assert len(await ledger.log.read_selected(Selection(since=AT, type="ProjectCreated"), after=0, limit=2)) == 2


async def _kill_blocked_backend(pool: Pool) -> None:
    """Wait until a backend waits for a lock, and kill it."""
    for _ in range(500):
        killed = await pool.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        if killed:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no backend waited")


@pytest.mark.parametrize("microsecond", [0, 1, 100, 123_456, 500_000, 999_999])
async def test_an_event_is_verified_whatever_its_time_and_its_texts_are(ledger: RealLedger, microsecond: int) -> None:
    at = AT.replace(microsecond=microsecond)
    name = "a \\ 'quote' \"and\" a\nline, ü and 🙂"
    stream = "project-ünïcode/🙂"
    made = Commit(stream=stream, expected_version=0, project_id="prj_ü", at=at, events=(ProjectCreated(name=name),))
    await ledger.log.append(made)
    found = await verify(ledger.pool)
    assert (found.first_bad, found.events) == (None, 1)
