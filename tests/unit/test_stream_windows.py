"""A stream's parts in memory are bounded: the worker asks for room, and the API gives it once its caller has read."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from domain.errors import ClientDisconnected
from domain.idempotency import Idempotency
from domain.job_result import JobFailure
from infra.broker import Broker
from infra.byte_budget import ByteBudget, BytesInHand
from infra.cancellations import Cancellation
from infra.incoming import MAX_JOINED_BYTES, ROOM_BYTES, IncomingStream
from infra.jobs import Job
from infra.replies import Resends
from infra.reply_frames import Frame
from infra.reply_sender import ReplySender, Room
from infra.reply_subjects import NO, YES
from tests.support.jobs import make_job
from workers import outgoing
from workers.outgoing import PIECE_BYTES, WINDOW_BYTES, OutgoingStream

PIECE = b"x" * 1024


class Told:
    """Records if a worker was told of room."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def filled(pieces: int) -> IncomingStream:
    """Return a stream with some parts that wait for its caller."""
    stream = IncomingStream()
    for number in range(1, pieces + 1):
        stream.take(Frame("part", 1, PIECE, number=number))
    return stream


def asked(parts: int, attempt: int = 1) -> Frame:
    return Frame("room?", attempt, number=parts)


async def test_room_is_told_at_once_while_little_waits() -> None:
    told, few = Told(), ROOM_BYTES // len(PIECE)
    filled(few).when_room(asked(few), told)
    assert told.times == 1


async def test_room_is_told_once_the_caller_has_read_most_of_what_was_sent() -> None:
    told, pieces = Told(), (ROOM_BYTES + MAX_JOINED_BYTES) // len(PIECE) + 1
    stream = filled(pieces)
    stream.when_room(asked(pieces), told)
    await stream.next()
    assert told.times == 0
    await stream.next()
    assert told.times == 1


async def test_a_question_that_is_repeated_is_answered_once() -> None:
    first, second, pieces = Told(), Told(), 2 * ROOM_BYTES // len(PIECE)
    stream = filled(pieces)
    stream.when_room(asked(pieces), first)
    stream.when_room(asked(pieces), second)
    await stream.next()
    assert (first.times, second.times) == (0, 1)


@pytest.mark.parametrize("end", [IncomingStream.expire, IncomingStream.begin_again], ids=["ended", "begun again"])
async def test_a_stream_that_keeps_nothing_has_room(end: Callable[[IncomingStream], object]) -> None:
    told, pieces = Told(), 2 * ROOM_BYTES // len(PIECE)
    stream = filled(pieces)
    end(stream)
    stream.when_room(asked(pieces), told)
    assert told.times == 1


async def test_the_end_of_a_stream_tells_the_worker_that_waits() -> None:
    told, pieces = Told(), 2 * ROOM_BYTES // len(PIECE)
    stream = filled(pieces)
    stream.when_room(asked(pieces), told)
    stream.expire()
    assert told.times == 1


async def test_parts_that_have_not_come_before_the_question_are_requested_again() -> None:
    requested: list[tuple[int, int]] = []
    stream, told = IncomingStream(Resends(lambda attempt, number: requested.append((attempt, number)))), Told()
    stream.take(Frame("part", 1, PIECE, number=1))
    stream.when_room(asked(3), told)
    assert requested == [(1, 2)]
    stream.take(Frame("part", 1, PIECE, number=2))
    stream.take(Frame("part", 1, PIECE, number=3))
    stream.expire()
    assert [await stream.next()] == [3 * PIECE]


async def test_what_waits_is_counted_exactly_through_holes_and_other_attempts() -> None:
    budget = ByteBudget(10**9)
    stream = IncomingStream(Resends(lambda *_: None), in_hand=BytesInHand(budget, "project"))
    for number in (1, 3, 4, 2):
        stream.take(Frame("part", 1, PIECE, number=number))
    assert stream._waiting_bytes == budget.in_hand_bytes == 4 * len(PIECE)
    stream.take(Frame("part", 2, PIECE, number=2))
    assert stream._waiting_bytes == len(PIECE)
    stream.take(Frame("part", 2, PIECE, number=1))
    assert await stream.next() == 2 * PIECE
    assert (stream._waiting_bytes, budget.in_hand_bytes) == (0, 0)
    stream.expire()


class Api:
    """The API's end: replies to questions as it is told to, and records what comes."""

    def __init__(self, *replies: Room) -> None:
        self._replies = list(replies)
        self.sent: list[bytes] = []
        self.questions: list[int] = []
        self.failures: list[JobFailure] = []

    async def send_part(self, _reply_to: str, _attempt: int, number: int, part: bytes, *, target: int = 0) -> int:
        assert target == 0, "there is one target"
        self.sent.append(part)
        return number

    async def wait_for_room(self, _reply_to: str, _attempt: int, parts: int) -> Room:
        self.questions.append(parts)
        await asyncio.sleep(0)
        return self._replies.pop(0) if self._replies else "room"

    async def send_failed(self, _reply_to: str, failure: JobFailure) -> None:
        self.failures.append(failure)


class Waiting(Cancellation):
    """A job's waiters: others may wait for the same answer."""

    others: bool = False

    async def has_followers(self) -> bool:
        return self.others


def sending(api: Api, *, others: bool = False, timeout_s: float = 60) -> tuple[OutgoingStream, Cancellation]:
    job: Job = make_job(request_id="req_1")
    cancellation = Waiting(Broker(), job, others=others)
    kept = BytesInHand(ByteBudget(0), "prj")
    stream = OutgoingStream(api, job, 1, cancellation, kept_bytes=kept, timeout_s=timeout_s)  # type: ignore[arg-type]
    return stream, cancellation


def keeping(budget: ByteBudget, project_id: str) -> OutgoingStream:
    """The stream of a request with an idempotency key."""
    made = make_job(request_id="req_1")
    known_by = Idempotency(key="00", fingerprint="11", received_at_ms=1, ttl_s=60)
    job: Job = replace(made, identity=replace(made.identity, idempotency=known_by))
    kept, cancellation = BytesInHand(budget, project_id), Waiting(Broker(), job)
    return OutgoingStream(Api(), job, 1, cancellation, kept_bytes=kept, timeout_s=60)  # type: ignore[arg-type]


async def test_streams_that_are_kept_for_retries_share_one_budget_of_bytes() -> None:
    budget = ByteBudget(8 * len(PIECE))
    greedy, second, other = keeping(budget, "greedy"), keeping(budget, "greedy"), keeping(budget, "other")
    for _ in range(4):
        await greedy.send(PIECE)
    await second.send(PIECE)
    await other.send(PIECE)
    assert budget.in_hand_bytes == 5 * len(PIECE)
    assert second.whole(b"end") is None, "its project has half of the budget already"
    assert other.whole(b"end") == PIECE + b"end"
    await greedy.send(PIECE)
    assert greedy.whole(b"end") is None
    assert budget.in_hand_bytes == len(PIECE) + len(b"end"), "what was dropped is free at once"
    for stream in (greedy, second, other):
        stream.close()
    assert budget.in_hand_bytes == 0


async def test_a_stream_within_the_window_asks_nothing() -> None:
    api = Api()
    stream, _ = sending(api)
    for _ in range(WINDOW_BYTES // len(PIECE)):
        await stream.send(PIECE)
    assert (api.questions, len(api.sent)) == ([], WINDOW_BYTES // len(PIECE))


async def test_a_full_window_waits_until_there_is_room() -> None:
    api, count = Api("not yet", "not yet", "room"), WINDOW_BYTES // len(PIECE)
    stream, _ = sending(api)
    for _ in range(count + 1):
        await stream.send(PIECE)
    assert (api.questions, len(api.sent)) == ([count] * 3, count + 1)


async def test_a_long_part_is_sent_in_pieces_with_room_for_each_window() -> None:
    api, count = Api(), WINDOW_BYTES // PIECE_BYTES
    stream, _ = sending(api)
    await stream.send(b"y" * (3 * WINDOW_BYTES))
    assert (api.questions, [len(piece) for piece in api.sent]) == ([count, 2 * count], [PIECE_BYTES] * 3 * count)
    assert stream.digest() == hashlib.sha256(b"y" * (3 * WINDOW_BYTES)).digest()


async def test_a_caller_that_is_gone_is_sent_nothing_more() -> None:
    api = Api("nobody")
    stream, cancellation = sending(api)
    await stream.send(b"z" * WINDOW_BYTES)
    for _ in range(1_000):
        await stream.send(PIECE)
    sent = WINDOW_BYTES // PIECE_BYTES
    assert (len(api.sent), len(api.questions), cancellation.caller_is_gone) == (sent, 1, True)


async def test_a_slow_caller_is_left_once_it_has_held_up_others_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_HELD_UP_S", 0)
    api = Api("not yet")
    stream, _ = sending(api, others=True)
    await stream.send(b"z" * WINDOW_BYTES)
    await stream.send(PIECE)
    await stream.send(PIECE)
    sent = WINDOW_BYTES // PIECE_BYTES
    assert (len(api.sent), [failure.code for failure in api.failures]) == (sent, ["UNAVAILABLE"])
    assert stream.size_bytes == WINDOW_BYTES + 2 * len(PIECE), "the answer goes on for the others"


async def test_a_caller_that_nobody_waits_behind_has_until_the_end_of_its_time() -> None:
    api = Api("not yet", "not yet", "not yet")
    stream, _ = sending(api, timeout_s=0)
    await stream.send(b"z" * WINDOW_BYTES)
    with pytest.raises(ClientDisconnected):
        await stream.send(PIECE)
    assert (len(api.questions), api.failures) == (1, [])


class Nats:
    """A connection whose requests are answered when the test says so."""

    def __init__(self) -> None:
        self.client = self
        self.reply: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    async def request(self, _subject: str, _payload: bytes, *, timeout: float) -> Msg:  # noqa: ASYNC109 - nats-py's
        return await asyncio.wait_for(self.reply, timeout)


async def test_a_reply_does_not_hide_that_the_stream_was_cancelled() -> None:
    nats = Nats()
    sender = ReplySender(nats)  # type: ignore[arg-type]
    asking = asyncio.create_task(sender.wait_for_room("reply.api.req_1", 1, 9))
    await asyncio.sleep(0)
    nats.reply.set_result(Msg(_client=nats, data=YES))  # type: ignore[arg-type]
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize(("said", "room"), [(YES, "room"), (NO, "nobody")])
async def test_an_api_process_says_if_there_is_room_or_nobody(said: bytes, room: Room) -> None:
    nats = Nats()
    nats.reply.set_result(Msg(_client=nats, data=said))  # type: ignore[arg-type]
    assert await ReplySender(nats).wait_for_room("reply.api.req_1", 1, 9) == room  # type: ignore[arg-type]


@pytest.mark.parametrize(("failure", "room"), [(NoRespondersError, "room"), (NatsTimeoutError, "not yet")])
async def test_an_api_process_that_is_away_keeps_nothing_and_one_that_is_silent_may(
    failure: type[Exception], room: Room
) -> None:
    nats = Nats()
    nats.reply.set_exception(failure())
    assert await ReplySender(nats).wait_for_room("reply.api.req_1", 1, 9) == room  # type: ignore[arg-type]
