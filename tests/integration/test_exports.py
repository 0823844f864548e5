"""Exports over HTTP: few at a time, in pages, up to the head of their beginning."""

from datetime import UTC, datetime

import msgspec
import pytest

from api.exports import MAX_EXPORT_S, MAX_EXPORTS, PAGE_EVENTS, START_S, Exports
from domain.errors import Overloaded
from domain.events import INSTALLATION, ProjectCreated
from infra.event_log import Commit
from infra.log_selection import Selection
from tests.support.ledger import RealLedger

AT = datetime(2026, 3, 1, tzinfo=UTC)
INSTALLATIONS = Selection(project_id=INSTALLATION)


async def append(ledger: RealLedger, stream: str, events: int) -> None:
    made = tuple(ProjectCreated(name=f"{number}") for number in range(events))
    await ledger.log.append(Commit(stream=stream, expected_version=0, project_id=INSTALLATION, at=AT, events=made))


async def test_an_export_has_every_event_up_to_the_head_of_its_beginning(ledger: RealLedger) -> None:
    await append(ledger, "a", PAGE_EVENTS + 3)
    head = await ledger.log.head()
    lines = Exports(ledger.pool).lines(Selection(), after=0, head=head)
    sent = await anext(lines)
    await append(ledger, "b", 1)
    sent += b"".join([page async for page in lines])
    positions = [msgspec.json.decode(line)["position"] for line in sent.splitlines()]
    assert positions == list(range(1, head + 1))


async def test_a_project_has_one_export_at_a_time_and_another_project_has_its_own(ledger: RealLedger) -> None:
    await append(ledger, "a", 2 * PAGE_EVENTS)
    exports, head = Exports(ledger.pool), await ledger.log.head()
    first = exports.lines(INSTALLATIONS, after=0, head=head)
    with pytest.raises(Overloaded):  # although nothing of the first was read yet
        exports.lines(INSTALLATIONS, after=0, head=head)
    exports.lines(Selection(project_id="prj_1"), after=0, head=head)
    await anext(first)
    with pytest.raises(Overloaded):
        exports.lines(INSTALLATIONS, after=0, head=head)
    await first.aclose()
    assert await anext(exports.lines(INSTALLATIONS, after=0, head=head))


async def test_more_exports_than_the_process_makes_are_refused(ledger: RealLedger) -> None:
    exports = Exports(ledger.pool)
    for number in range(MAX_EXPORTS):
        exports.lines(Selection(project_id=f"prj_{number}"), after=0, head=1)
    with pytest.raises(Overloaded):
        exports.lines(INSTALLATIONS, after=0, head=1)


async def test_an_export_that_nobody_begins_to_read_makes_room(ledger: RealLedger) -> None:
    clock = iter((0.0, START_S + 1))
    exports = Exports(ledger.pool, lambda: next(clock))
    exports.lines(INSTALLATIONS, after=0, head=1)
    exports.lines(INSTALLATIONS, after=0, head=1)


async def test_an_export_that_takes_too_long_ends_with_an_error_and_makes_room(ledger: RealLedger) -> None:
    await append(ledger, "a", 2 * PAGE_EVENTS)
    clock = iter((0.0, 0.0, 0.0, MAX_EXPORT_S, MAX_EXPORT_S))
    exports, head = Exports(ledger.pool, lambda: next(clock)), await ledger.log.head()
    lines = exports.lines(INSTALLATIONS, after=0, head=head)
    await anext(lines)
    with pytest.raises(Overloaded):
        await anext(lines)
    exports.lines(INSTALLATIONS, after=0, head=head)
