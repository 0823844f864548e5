"""Which events a selection finds: every filter, in both directions, though clocks differ."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from domain.events import ApiKeyRevoked, ProjectCreated
from infra.event_log import Commit
from infra.log_selection import Selection, bounds_of
from infra.raw_events import RawEvent, raw_batch, selected_raw_events
from tests.support.ledger import RealLedger

AT = datetime(2026, 3, 1, tzinfo=UTC)
EVENTS = 120
SKEWS_MIN = (0, 4, -5, 0, 2, -3)
"""By how much the clocks of the processes that appended are off."""


@pytest.fixture
async def logged(ledger: RealLedger) -> list[RawEvent]:
    """Append an event every minute, from processes whose clocks differ."""
    for number in range(EVENTS):
        at = AT + timedelta(minutes=number + SKEWS_MIN[number % len(SKEWS_MIN)])
        project_id = f"prj_{number % 3}"
        kind = ApiKeyRevoked(key_id=f"key_{number}") if number % 7 == 0 else ProjectCreated(name=f"{number}")
        await ledger.log.append(
            Commit(stream=f"s-{number}", expected_version=0, project_id=project_id, at=at, events=(kind,))
        )
    return await raw_batch(ledger.pool, after=0, limit=EVENTS)


def wanted(event: RawEvent, selection: Selection) -> bool:
    """Say what a selection means, event by event."""
    return (
        selection.project_id in (None, event.project_id)
        and selection.type in (None, event.type)
        and selection.stream in (None, event.stream)
        and (selection.since is None or event.at >= selection.since)
        and (selection.until is None or event.at < selection.until)
    )


async def test_a_selection_has_what_it_asks_for_in_both_directions(ledger: RealLedger, logged: list[RawEvent]) -> None:
    times = (None, AT - timedelta(days=1), AT, AT + timedelta(minutes=47), AT + timedelta(days=1))
    for since, until, project_id, kind in product(times, times, (None, "prj_1"), (None, "ApiKeyRevoked")):
        selection = Selection(since=since, until=until, project_id=project_id, type=kind)
        expected = [event for event in logged if wanted(event, selection)]
        found = await selected_raw_events(ledger.pool, selection, after=0, limit=EVENTS)
        assert found == expected, selection
        backwards = await selected_raw_events(ledger.pool, selection, after=0, before=EVENTS + 1, limit=EVENTS)
        assert backwards == expected[::-1], selection


async def test_a_page_before_a_position_is_the_one_next_to_it(ledger: RealLedger, logged: list[RawEvent]) -> None:
    page = await selected_raw_events(ledger.pool, Selection(), after=0, before=50, limit=3)
    assert page == [logged[48], logged[47], logged[46]]
    assert await selected_raw_events(ledger.pool, Selection(), after=48, before=50, limit=3) == [logged[48]]


async def test_time_before_the_calendar_begins_and_after_it_ends_selects_all(
    ledger: RealLedger, logged: list[RawEvent]
) -> None:
    always = Selection(since=datetime.min.replace(tzinfo=UTC), until=datetime.max.replace(tzinfo=UTC))
    assert await selected_raw_events(ledger.pool, always, after=0, limit=EVENTS) == logged


async def test_bounds_that_were_found_once_hold_for_what_is_appended_later(
    ledger: RealLedger, logged: list[RawEvent]
) -> None:
    from_the_end = Selection(since=AT + timedelta(minutes=EVENTS - 10), until=AT + timedelta(days=1))
    bounds = await bounds_of(ledger.pool, from_the_end)
    at = AT + timedelta(minutes=EVENTS)
    made = ProjectCreated(name="late")
    await ledger.log.append(Commit(stream="late", expected_version=0, project_id="prj_1", at=at, events=(made,)))
    found = await selected_raw_events(ledger.pool, from_the_end, after=0, limit=EVENTS, bounds=bounds)
    assert [event.position for event in found][-1] == EVENTS + 1
    assert found[:-1] == [event for event in logged if wanted(event, from_the_end)]


async def test_a_selection_of_an_empty_log_is_empty(ledger: RealLedger) -> None:
    assert await selected_raw_events(ledger.pool, Selection(since=AT, until=AT), after=0, limit=1) == []
