"""Exports over HTTP: few at a time, in pages, up to the head of their beginning."""

from datetime import UTC, datetime

import msgspec
import pytest

from api.exports import MAX_EXPORTS, PAGE_EVENTS, Exports
from domain.errors import Overloaded
from domain.events import INSTALLATION, ProjectCreated
from infra.event_log import Commit
from infra.log_selection import Selection
from tests.support.ledger import RealLedger

AT = datetime(2026, 3, 1, tzinfo=UTC)


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


async def test_more_exports_than_a_few_are_refused_until_one_has_ended_or_was_given_up(ledger: RealLedger) -> None:
    await append(ledger, "a", 2 * PAGE_EVENTS)
    exports, head = Exports(ledger.pool), await ledger.log.head()
    under_way = [exports.lines(Selection(), after=0, head=head) for _ in range(MAX_EXPORTS)]
    for lines in under_way:
        await anext(lines)
    with pytest.raises(Overloaded):
        exports.lines(Selection(), after=0, head=head)
    await under_way[0].aclose()
    assert await anext(exports.lines(Selection(), after=0, head=head))
