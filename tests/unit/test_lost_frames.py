"""Lost frames: later frames wait, a lost frame is requested once, and frames of two attempts are never mixed."""

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest

from domain.job_result import JobFailure, Receipt
from domain.tokens import TokenUsage
from infra.incoming import MAX_AHEAD_BYTES, IncomingStream, PartsLost
from infra.replies import MAX_RESENDS, Committed, Completed, Failed, Resends
from infra.reply_frames import Frame
from infra.reply_sender import FRAME_OVERHEAD_BYTES, SentFrames

RECEIPT = Receipt(
    provider="echo",
    upstream_model="echo",
    usage=TokenUsage(input=1),
    cost_nano_usd=None,
    answered_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def part(number: int, attempt: int = 1) -> Frame:
    return Frame("part", attempt, f"{attempt}.{number} ".encode(), number=number)


def commit(parts: int, attempt: int = 1) -> Frame:
    return Frame("commit", attempt, msgspec.json.encode(RECEIPT), number=parts)


class ResendingStream:
    """A stream that records the frames that it requests again."""

    def __init__(self, interval_s: float = 5) -> None:
        self.requested: list[tuple[int, int]] = []
        self.stream = IncomingStream(
            Resends(lambda attempt, number: self.requested.append((attempt, number)), interval_s=interval_s)
        )

    def take(self, *frames: Frame) -> None:
        for frame in frames:
            self.stream.take(frame)

    async def text(self) -> str:
        """Read the stream to its committed end. Return the text."""
        pieces = b""
        while isinstance(piece := await asyncio.wait_for(self.stream.next(), 5), bytes):
            pieces += piece
        assert isinstance(piece, Committed)
        return pieces.decode()


async def test_lost_part_is_resent_in_order() -> None:
    resending = ResendingStream()
    resending.take(part(1), part(3), part(4), part(6))
    assert resending.requested == [(1, 2)]
    resending.take(part(2), part(3), part(4), part(5), part(6), part(7), commit(7))
    assert resending.requested == [(1, 2)]
    assert await resending.text() == "1.1 1.2 1.3 1.4 1.5 1.6 1.7 "


async def test_early_commit_frame_ends_the_stream_after_its_parts() -> None:
    resending = ResendingStream()
    resending.take(part(1), commit(3))
    assert resending.requested == [(1, 2)]
    resending.take(part(2))
    assert not resending.stream.has_ended
    resending.take(part(3))
    assert await resending.text() == "1.1 1.2 1.3 "


async def test_missed_ending_is_read_from_the_log() -> None:
    resending = ResendingStream()
    resending.take(part(1))
    resending.stream.end_by_log(Completed(attempt=1, digest=b"", receipt=RECEIPT))
    assert resending.requested == [(1, 2)]
    resending.take(part(2), commit(2))
    assert await resending.text() == "1.1 1.2 "


async def test_a_failure_that_only_the_log_has_ends_the_stream() -> None:
    resending, failure = ResendingStream(), JobFailure(code="PROVIDER_TIMEOUT", message="late", provider="echo")
    resending.stream.end_by_log(failure)
    assert await resending.stream.next() == Failed(failure)


async def test_unsendable_part_ends_the_stream_in_time() -> None:
    resending = ResendingStream(interval_s=0.01)
    resending.take(part(1), part(3))
    assert await resending.stream.next() == b"1.1 "
    with pytest.raises(PartsLost):
        await asyncio.wait_for(resending.stream.next(), 5)
    assert resending.requested == [(1, 2)] * MAX_RESENDS


async def test_a_hole_that_is_filled_is_not_given_up() -> None:
    resending = ResendingStream(interval_s=0.01)
    resending.take(part(1), part(3), part(2))
    await asyncio.sleep(0.1)
    resending.take(part(4), commit(4))
    assert await resending.text() == "1.1 1.2 1.3 1.4 "


async def test_no_more_waits_behind_a_hole_than_the_bound() -> None:
    resending = ResendingStream()
    resending.take(part(1), Frame("part", 1, b"x" * MAX_AHEAD_BYTES, number=3), part(4))
    assert await resending.stream.next() == b"1.1 "
    with pytest.raises(PartsLost):
        await resending.stream.next()


async def test_stream_never_mixes_parts_of_two_attempts() -> None:
    resending = ResendingStream()
    resending.take(part(1), part(3))
    assert await resending.stream.next() == b"1.1 "
    resending.take(part(2, attempt=2))
    with pytest.raises(PartsLost):
        await resending.stream.next()


async def test_another_attempt_takes_over_whole_while_the_caller_has_nothing() -> None:
    resending = ResendingStream()
    resending.take(part(1), part(3))
    assert resending.stream.begin_again()
    resending.take(part(2), part(1, attempt=2), part(2, attempt=2), commit(2, attempt=2))
    assert await resending.text() == "2.1 2.2 "


async def test_commit_of_a_dropped_attempt_is_ignored() -> None:
    resending = ResendingStream(interval_s=0.01)
    resending.take(part(1), part(2))
    assert resending.stream.begin_again()
    resending.take(commit(2))
    with pytest.raises(PartsLost):
        await asyncio.wait_for(resending.stream.next(), 5)


async def test_frames_are_kept_within_a_bound_the_newest_longest() -> None:
    size_bytes = FRAME_OVERHEAD_BYTES + 1000
    kept = SentFrames(max_bytes=3 * size_bytes)
    for number in range(5):
        kept.keep(f"req_{number % 2}", bytes([number]) * 1000)
    assert [frame[0] for frame in kept.of("req_0")] == [2, 4]
    assert [frame[0] for frame in kept.of("req_1")] == [3]
    kept.clear()
    assert kept.of("req_0") == []


async def test_small_frames_are_dropped_together_and_large_ones_alone() -> None:
    size_bytes = FRAME_OVERHEAD_BYTES + 1000
    kept = SentFrames(max_bytes=80 * size_bytes)
    for number in range(85):
        kept.keep("req", bytes([number]) * 1000)
    assert [frame[0] for frame in kept.of("req")] == list(range(10, 85))
    kept.keep("large", b"x" * 79 * size_bytes)
    assert kept.of("req") == []
    assert len(kept.of("large")) == 1
    kept.keep("too large", b"x" * 80 * size_bytes)
    assert kept.of("too large") == []


async def test_frames_are_kept_for_a_while_only() -> None:
    kept = SentFrames(kept_for_s=0.05)
    kept.keep("req", b"frame")
    assert kept.of("req") == [b"frame"]
    await asyncio.sleep(0.5)
    assert kept.of("req") == []
