"""The log's promises: about commits that share a batch, about verification, and about interrupted appends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest

from domain.errors import Unavailable
from domain.events import ApiKeyRevoked, Event, ProjectCreated, ProjectSettingsChanged
from infra.database import Connection, HeldConnection, OutcomeUnknown
from infra.event_log import Blob, Commit, Conflict, EventLog
from infra.log_selection import Selection
from infra.log_verification import verify
from tests.support.ledger import RealLedger
from tests.support.locks import blocked_backend

AT = datetime(2026, 3, 1, tzinfo=UTC)


def commit(
    stream: str,
    version: int = 0,
    *events: Event | str,
    project: str = "prj_1",
    at: datetime = AT,
    blobs: tuple[Blob, ...] = (),
) -> Commit:
    named = tuple(ProjectCreated(name=event) if isinstance(event, str) else event for event in events or ("one",))
    return Commit(stream=stream, expected_version=version, project_id=project, at=at, events=named, blobs=blobs)


def blob(name: str) -> Blob:
    return Blob(blob_id=name, project_id="prj_1", body=b"sealed", expires_at=AT)


async def together(log: EventLog, *commits: Commit) -> list[int | BaseException]:
    """Append in one batch: all commits wait before the first statement is sent."""
    return await asyncio.gather(*(log.append(one) for one in commits), return_exceptions=True)


async def is_whole(ledger: RealLedger, events: int) -> bool:
    rows = await ledger.pool.fetch("SELECT position FROM events ORDER BY position")
    found = await verify(ledger.pool)
    positions = [row["position"] for row in rows]
    return positions == list(range(1, events + 1)) and (found.events, found.first_bad) == (events, None)


@pytest.fixture
async def other(database_url: str, ledger: RealLedger) -> AsyncIterator[EventLog]:
    """Return a second appender, like another process's."""
    log = EventLog(ledger.pool, HeldConnection(database_url, name="other"))
    yield log
    await log.close()


async def test_first_of_two_commits_to_one_version_lands(ledger: RealLedger) -> None:
    first, second, third = await together(ledger.log, commit("s", 0, "a"), commit("s", 0, "b"), commit("s", 1, "c"))
    assert (first, third) == (1, 2)
    assert isinstance(second, Conflict)
    assert (second.stream, second.expected_version) == ("s", 0)
    assert [one.event for one in await ledger.log.read_stream("s")] == [
        ProjectCreated(name="a"),
        ProjectCreated(name="c"),
    ]
    assert await is_whole(ledger, 2)


async def test_a_commit_lands_whole_or_not_at_all(ledger: RealLedger) -> None:
    await ledger.log.append(commit("s", 0, "first"))
    overlapping = commit("s", 0, "taken", "free", blobs=(blob("lost"),))
    landed, lost, last = await together(ledger.log, commit("t", blobs=(blob("kept"),)), overlapping, commit("u"))
    assert (landed, last) == (2, 3)
    assert isinstance(lost, Conflict)
    assert len(await ledger.log.read_stream("s")) == 1
    assert (await ledger.log.read_blob("kept"), await ledger.log.read_blob("lost")) == (b"sealed", None)
    assert await is_whole(ledger, 3)


async def test_concurrent_appends_leave_no_gap(ledger: RealLedger, other: EventLog) -> None:
    contested = [commit(f"s-{n}", 0, *["x"] * (1 + n % 3)) for n in range(50)]
    mine, theirs = ([commit(f"{whose}-{n}", 0, "x", "y") for n in range(50)] for whose in ("mine", "theirs"))
    found = await asyncio.gather(together(ledger.log, *contested, *mine), together(other, *contested, *theirs))
    is_lost = [[isinstance(outcome, Conflict) for outcome in outcomes] for outcomes in found]
    assert [sorted(both) for both in zip(is_lost[0][:50], is_lost[1][:50], strict=True)] == [[False, True]] * 50
    assert is_lost[0][50:] + is_lost[1][50:] == [False] * 100
    assert await is_whole(ledger, sum(len(one.events) for one in (*contested, *mine, *theirs)))


async def test_appends_land_in_order(ledger: RealLedger, other: EventLog) -> None:
    behind: list[asyncio.Task[int]] = []

    async def while_under_way(connection: Connection) -> None:
        behind.append(asyncio.create_task(other.append(commit("behind"))))
        await blocked_backend(connection)

    assert await ledger.log.append_with([commit("first", 0, "x", "y")], while_under_way) == 2
    assert await behind[0] == 3
    assert await is_whole(ledger, 3)


@pytest.mark.parametrize("taken", [[], ["taken"]], ids=["all else lands", "another loses"])
async def test_a_commit_ahead_of_its_stream_is_a_conflict(ledger: RealLedger, taken: list[str]) -> None:
    await together(ledger.log, *(commit(stream) for stream in (*taken, "s")))
    first, *ahead, last = await together(
        ledger.log, commit("a"), commit("empty", 5), commit("s", 2), *map(commit, taken), commit("s", 1)
    )
    assert (first, last) == (len(taken) + 2, len(taken) + 3)
    assert [type(one) for one in ahead] == [Conflict] * (2 + len(taken))
    assert await is_whole(ledger, len(taken) + 3)


async def test_a_position_is_that_of_the_commits_last_event(ledger: RealLedger) -> None:
    await ledger.log.append(commit("taken"))
    assert await together(ledger.log, commit("a", 0, "x", "y"), commit("b", 0, "x", "y", "z")) == [3, 6]
    found = await together(ledger.log, commit("c", 0, "x", "y"), commit("taken"), commit("d", 0, "x", "y", "z"))
    assert (found[0], found[2]) == (8, 11)
    assert [one.position for one in await ledger.log.read_stream("d")] == [9, 10, 11]


@pytest.mark.parametrize(
    "unstorable",
    [
        commit("nul\0"),
        commit("past", 2**31),
        commit("nul", 0, "a", blobs=(blob("b\0"),)),
        commit("half", 0, "a lone \ud800 surrogate"),
    ],
)
async def test_unstorable_event_fails_alone(ledger: RealLedger, unstorable: Commit) -> None:
    await ledger.log.append(commit("taken"))
    first, bad, lost, last = await together(
        ledger.log, commit("a", 0, "x", "y"), unstorable, commit("taken"), commit("b")
    )
    assert (first, last) == (3, 4)
    assert isinstance(bad, asyncpg.PostgresError | UnicodeEncodeError)
    assert isinstance(lost, Conflict)
    assert await is_whole(ledger, 4)


async def test_any_character_of_json_is_kept(ledger: RealLedger) -> None:
    name = 'a\0b\u2028\U0001f600\x7f"\\'
    await ledger.log.append(commit("s", 0, name))
    assert [one.event for one in await ledger.log.read_stream("s")] == [ProjectCreated(name=name)]
    assert await is_whole(ledger, 1)


@pytest.fixture
async def tampered(ledger: RealLedger) -> Callable[..., Awaitable[None]]:
    """Return a function that changes a log of four batches: 1 to 3, 4 to 6, 7 to 9, 10 to 12."""
    for batch in range(4):
        await together(ledger.log, *(commit(f"s-{batch}-{n}", 0, f"{batch}-{n}") for n in range(3)))

    async def tamper(*statements: str) -> None:
        async with ledger.owner.acquire() as superuser, superuser.transaction():
            await superuser.execute("ALTER TABLE events DISABLE TRIGGER events_are_immutable")
            for statement in statements:
                await superuser.execute(statement)
            await superuser.execute("ALTER TABLE events ENABLE TRIGGER events_are_immutable")

    return tamper


NOT_ITS_DIGEST = "the event is not what its digest was made of"
SWAP = "UPDATE events e SET data = o.data FROM events o WHERE (e.position, o.position) IN ((5, 8), (8, 5))"
SWAP_WHOLE = (
    "UPDATE events SET position = -position WHERE position IN (5, 8)",
    "UPDATE events SET position = 13 + position WHERE position IN (-5, -8)",
)


@pytest.mark.parametrize(
    ("tampering", "position", "reason"),
    [
        (['UPDATE events SET data = \'{"name": "1-1"}\' WHERE position = 5'], 5, NOT_ITS_DIGEST),
        (["UPDATE events SET type = 'ProjectSettingsChanged' WHERE position = 5"], 5, NOT_ITS_DIGEST),
        (["UPDATE events SET project_id = 'prj_2' WHERE position = 5"], 5, NOT_ITS_DIGEST),
        (["UPDATE events SET stream = 's-x' WHERE position = 5"], 5, NOT_ITS_DIGEST),
        (["UPDATE events SET at = at + interval '1 microsecond' WHERE position = 5"], 5, NOT_ITS_DIGEST),
        (["UPDATE events SET digest = sha256('') WHERE position = 5"], 5, NOT_ITS_DIGEST),
        (["UPDATE events SET version = 2 WHERE position = 5"], 5, "version 1 of stream s-1-1 is missing"),
        ([SWAP], 5, NOT_ITS_DIGEST),
        (SWAP_WHOLE, 4, "the chain over the batch 4 to 6 does not fit"),
        (["DELETE FROM events WHERE position = 5"], 6, "position 5 is missing"),
        (["DELETE FROM events WHERE position = 1"], 2, "position 1 is missing"),
        (["DELETE FROM events WHERE position > 10"], 11, "events are missing at the end"),
        (["DELETE FROM events"], 1, "events are missing at the end"),
        (["UPDATE events SET chain = NULL WHERE position = 6"], 4, "the chain over the batch 4 to 9 does not fit"),
        (["UPDATE events SET chain = NULL WHERE position = 12"], 12, "the head's digest does not fit"),
        (["UPDATE events SET chain = digest WHERE position = 5"], 4, "the chain over the batch 4 to 5 does not fit"),
        (["UPDATE log_head SET digest = sha256('')"], 12, "the head's digest does not fit"),
    ],
)
async def test_tampering_is_found_where_it_was_done(
    ledger: RealLedger, tampered: Callable[..., Awaitable[None]], tampering: list[str], position: int, reason: str
) -> None:
    assert await is_whole(ledger, 12)
    await tampered(*tampering)
    found = await verify(ledger.pool)
    assert (found.first_bad, found.reason) == (position, reason)


async def test_forged_event_with_a_digest_is_found(
    ledger: RealLedger, tampered: Callable[..., Awaitable[None]]
) -> None:
    forged = r"E's-1-1\n1\nProjectCreated\nprj_1\n2026-03-01T00:00:00+00:00\n{\"name\":\"forged\"}'"
    await tampered(
        """UPDATE events SET data = '{"name":"forged"}', """
        f"digest = sha256(convert_to({forged}, 'UTF8')) WHERE position = 5"
    )
    found = await verify(ledger.pool)
    assert (found.first_bad, found.reason) == (4, "the chain over the batch 4 to 6 does not fit")


async def test_verification_reports_how_far_it_came(ledger: RealLedger) -> None:
    await together(ledger.log, commit("a"), commit("b", 0, "x", "y"))
    await together(ledger.log, commit("a", 1), commit("a", 1), commit("c", 0, "x", "y"))
    found = await verify(ledger.pool)
    head = await ledger.pool.fetchrow("SELECT position, digest FROM log_head")
    assert (found.events, found.batches, found.head) == (head["position"], 3, head["digest"])


async def test_append_and_its_side_effects_are_one_transaction(ledger: RealLedger) -> None:
    async def apply(connection: Connection) -> None:
        await connection.execute("INSERT INTO projection_checkpoints (projection, position) VALUES ('tests', 7)")

    assert await ledger.log.append_with([commit("a", 0, "x", "y"), commit("b")], apply) == 3
    assert await ledger.pool.fetchval("SELECT position FROM projection_checkpoints WHERE projection = 'tests'") == 7
    assert await is_whole(ledger, 3)


async def test_one_conflict_undoes_all_that_is_appended_with_it(ledger: RealLedger) -> None:
    applied = []

    async def apply(connection: Connection) -> None:
        applied.append(connection)

    await ledger.log.append(commit("taken"))
    with pytest.raises(Conflict) as conflict:
        await ledger.log.append_with([commit("a", blobs=(blob("lost"),)), commit("taken")], apply)
    assert conflict.value.stream == "taken"
    assert applied == []
    assert await ledger.log.read_blob("lost") is None
    assert await is_whole(ledger, 1)


async def test_side_effects_are_undone_with_their_append(ledger: RealLedger) -> None:
    async def apply(connection: Connection) -> None:
        await connection.execute("INSERT INTO projection_checkpoints (projection, position) VALUES ('tests', 7)")
        raise LookupError

    with pytest.raises(LookupError):
        await ledger.log.append_with([commit("a", blobs=(blob("lost"),))], apply)
    assert await ledger.pool.fetchval("SELECT count(*) FROM projection_checkpoints WHERE projection = 'tests'") == 0
    assert await ledger.log.read_blob("lost") is None
    assert await is_whole(ledger, 0)


async def test_only_items_in_flight_are_in_doubt_on_disconnect(ledger: RealLedger) -> None:
    await ledger.log.append(commit("before"))
    async with ledger.owner.acquire() as blocker:
        async with blocker.transaction():
            await blocker.execute("SELECT position FROM log_head FOR UPDATE")
            under_way = [asyncio.create_task(ledger.log.append(commit(f"during-{n}"))) for n in range(3)]
            backend = await blocked_backend(blocker)
            behind = [asyncio.create_task(ledger.log.append(commit(f"behind-{n}"))) for n in range(3)]
            await ledger.pool.execute("SELECT pg_terminate_backend($1)", backend)
            in_doubt = await asyncio.gather(*under_way, return_exceptions=True)
        assert [type(outcome) for outcome in in_doubt] == [OutcomeUnknown] * 3
    assert await asyncio.gather(*behind) == [2, 3, 4]
    assert ledger.log.unknown_outcomes == 1
    assert await is_whole(ledger, 4)


async def test_commit_in_doubt_is_retried_and_lands_once(ledger: RealLedger) -> None:
    async with ledger.owner.acquire() as blocker, blocker.transaction():
        await blocker.execute("SELECT position FROM log_head FOR UPDATE")
        in_doubt = asyncio.create_task(ledger.log.append(commit("s")))
        await ledger.pool.execute("SELECT pg_terminate_backend($1)", await blocked_backend(blocker))
        with pytest.raises(OutcomeUnknown):
            await in_doubt
    assert await ledger.log.append(commit("s")) == 1
    with pytest.raises(Conflict):
        await ledger.log.append(commit("s"))
    assert await is_whole(ledger, 1)


async def test_unsent_append_is_in_no_doubt(ledger: RealLedger) -> None:
    unreachable = HeldConnection("postgresql://tests@127.0.0.1:1/tests", name="tests")
    log = EventLog(ledger.pool, unreachable)
    with pytest.raises(Unavailable) as error:
        await log.append(commit("s"))
    assert not isinstance(error.value, OutcomeUnknown)
    assert log.unknown_outcomes == 0
    await log.close()


async def test_listener_gets_one_position_for_each_batch(database_url: str, ledger: RealLedger) -> None:
    announced: list[int] = []

    async def listen(position: int) -> None:
        announced.append(position)

    async def nothing(_connection: Connection) -> None: ...

    log = EventLog(ledger.pool, HeldConnection(database_url, name="tests"), on_append=listen)
    await together(log, commit("a"), commit("b", 0, "x", "y"))
    await together(log, commit("c"), commit("a"))
    await together(log, commit("a"), commit("b"))
    await log.append_with([commit("d"), commit("e")], nothing)
    await log.close()
    assert announced == [3, 4, 6]


@pytest.fixture
async def readable(ledger: RealLedger) -> EventLog:
    """Return a log of six events: three streams, two projects, three types; from the third on a minute apart."""
    renamed, revoked = ProjectSettingsChanged(name="x"), ApiKeyRevoked(key_id="key_1")
    for appended in (
        commit("a", 0, "x", renamed),
        commit("b", 0, "x", project="prj_2", at=AT + timedelta(minutes=1)),
        commit("a", 2, revoked, at=AT + timedelta(minutes=2)),
        commit("c", 0, "x", revoked, at=AT + timedelta(minutes=3)),
    ):
        await ledger.log.append(appended)
    return ledger.log


SELECTED = (
    (Selection(), [1, 2, 3, 4, 5, 6]),
    (Selection(project_id="prj_1"), [1, 2, 4, 5, 6]),
    (Selection(stream="a"), [1, 2, 4]),
    (Selection(type="ApiKeyRevoked"), [4, 6]),
    (Selection(since=AT + timedelta(minutes=2)), [4, 5, 6]),
    (Selection(until=AT + timedelta(minutes=2)), [1, 2, 3]),
    (Selection(project_id="prj_1", type="ProjectCreated", since=AT, until=AT + timedelta(minutes=3)), [1]),
    (Selection(project_id="prj_2", stream="a"), []),
)


async def test_a_selection_is_read_in_order_and_in_pages(readable: EventLog) -> None:
    for selection, positions in SELECTED:
        whole = await readable.read_selected(selection, after=0, limit=10)
        assert [one.position for one in whole] == positions, selection
        for before, after in pairwise([0, *positions]):
            page = await readable.read_selected(selection, after=before, limit=1)
            assert [one.position for one in page] == [after], selection


async def test_the_log_is_read_in_order_and_in_pages(readable: EventLog) -> None:
    assert [one.position for one in await readable.read_after(0)] == [1, 2, 3, 4, 5, 6]
    assert [one.position for one in await readable.read_after(2, limit=3)] == [3, 4, 5]
    assert await readable.read_after(6) == []


async def test_a_stream_is_its_own_events_by_version(readable: EventLog) -> None:
    stream = await readable.read_stream("a")
    assert [(one.position, one.version, one.type) for one in stream] == [
        (1, 1, "ProjectCreated"),
        (2, 2, "ProjectSettingsChanged"),
        (4, 3, "ApiKeyRevoked"),
    ]
    assert await readable.read_stream("z") == []
