"""Requests that wait for the same account get through in the order of their arrival, and nobody is starved."""

import asyncio
from collections.abc import Sequence

import pytest

from api import waiting_lines
from api.client_disconnect import ClientDisconnect
from api.waiting_lines import MAX_WAITING_PER_LINE, LineFull, WaitingLines
from domain.errors import ClientDisconnected

PATIENCE_S = 60.0
LOOKS = 4_000


class Room:
    """A budget in the place of admission: has room for holds, and notes who asked and who got through."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[str] = []
        self.through: list[str] = []

    async def ask(self, name: str, hold: int) -> bool:
        self.asked.append(name)
        await asyncio.sleep(0)
        if hold > self.room:
            return False
        self.room -= hold
        self.through.append(name)
        return True


def stand(
    lines: WaitingLines,
    room: Room,
    name: str,
    hold: int,
    *,
    wait_s: float = PATIENCE_S,
    disconnect: ClientDisconnect | None = None,
) -> "asyncio.Task[bool | None]":
    return asyncio.create_task(
        lines.wait(
            "key",
            hold,
            lambda: room.ask(name, hold),
            waits=lambda is_through: not is_through,
            wait_s=wait_s,
            disconnect=disconnect or ClientDisconnect(),
        )
    )


async def until(condition: Sequence[str], length: int) -> None:
    for _ in range(LOOKS):
        if len(condition) >= length:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{len(condition)} of {length}")


async def test_they_get_through_in_the_order_of_their_arrival() -> None:
    lines, room = WaitingLines(), Room(0)
    names = [str(number) for number in range(200)]
    tasks = [stand(lines, room, name, 1) for name in names]
    await until(room.asked, 1)
    for released in (1, 3, 50, 146):
        room.room += released
        await until(room.through, len(room.through) + room.room)
    assert await asyncio.gather(*tasks) == [True] * 200
    assert room.through == names
    assert not lines.is_waited_for("key")


async def test_a_large_hold_is_not_passed_by_small_ones_behind_it() -> None:
    lines, room = WaitingLines(), Room(0)
    holds = {"small": 1, "large": 10, "later": 1, "last": 1}
    tasks = [stand(lines, room, name, hold) for name, hold in holds.items()]
    for _ in range(12):
        room.room += 1
        await asyncio.sleep(2 * waiting_lines.RETRY_S)
    room.room += 1
    await asyncio.gather(*tasks)
    assert room.through == list(holds)


async def test_only_the_front_asks_while_there_is_no_room() -> None:
    lines, room = WaitingLines(), Room(0)
    tasks = [stand(lines, room, str(number), 1) for number in range(500)]
    await until(room.asked, 5)
    assert set(room.asked) == {"0"}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not lines.is_waited_for("key")


async def test_one_that_is_out_of_time_leaves_and_the_next_asks() -> None:
    lines, room = WaitingLines(), Room(0)
    hasty = stand(lines, room, "hasty", 5, wait_s=0.1)
    patient = stand(lines, room, "patient", 1)
    assert await hasty is None
    room.room = 1
    assert await patient is True
    assert room.through == ["patient"]


async def test_a_client_that_leaves_the_line_lets_the_next_ask() -> None:
    lines, room, leaving = WaitingLines(), Room(0), ClientDisconnect()
    gone = stand(lines, room, "gone", 5, disconnect=leaving)
    stays = stand(lines, room, "stays", 1)
    await until(room.asked, 1)
    leaving.note()
    with pytest.raises(ClientDisconnected, match="before the answer had begun"):
        await gone
    room.room = 1
    assert await stays is True


async def test_an_error_of_one_that_asks_holds_up_nobody() -> None:
    lines, room = WaitingLines(), Room(1)

    async def fail() -> bool:
        raise ConnectionError

    failing = asyncio.create_task(
        lines.wait("key", 1, fail, waits=bool, wait_s=PATIENCE_S, disconnect=ClientDisconnect())
    )
    following = stand(lines, room, "following", 1)
    with pytest.raises(ConnectionError):
        await failing
    assert await following is True


async def test_a_full_line_takes_no_more() -> None:
    lines, room = WaitingLines(), Room(0)
    tasks = [stand(lines, room, str(number), 1) for number in range(MAX_WAITING_PER_LINE)]
    await until(room.asked, 1)
    with pytest.raises(LineFull):
        await stand(lines, room, "one more", 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_lines_of_other_accounts_are_apart() -> None:
    lines, room = WaitingLines(), Room(0)
    waiting = stand(lines, room, "waiting", 1)
    await until(room.asked, 1)
    assert (lines.is_waited_for("key"), lines.is_waited_for("another"), lines.is_waited_for("another", "key")) == (
        True,
        False,
        True,
    )
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
