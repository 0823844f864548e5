"""The work that an answer costs grows with its bytes, whatever its shape.

Compared is the processor's time for a large answer with that for a small one of the same shape, for each byte, not
seconds: what C does (hashes, copies of texts) is no line of Python. The best of several tries counts, so that it does
not matter what else the machine does.
"""

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.sse import SseParser, sse
from domain.dialects.translation import Translation
from domain.tokens import TokenUsage
from tests.fuzz import answer_shapes
from tests.fuzz.test_strange_answers import CHAT, MESSAGES, OPTIONS, RESPONSES, SUMMARY, WAYS

SMALL_BYTES, LARGE_BYTES = 100_000, 400_000
MAX_GROWTH = 2
"""Of the time for each byte, from the small answer to the large one. Of work that grows with the square it is 4."""
TRIES = 5

ANSWERS = {
    CHAT: answer_shapes.CHAT_ANSWERS,
    MESSAGES: answer_shapes.MESSAGE_ANSWERS,
    RESPONSES: answer_shapes.RESPONSE_ANSWERS,
}
STREAMS = {
    CHAT: answer_shapes.CHAT_STREAMS,
    MESSAGES: answer_shapes.MESSAGE_STREAMS,
    RESPONSES: answer_shapes.RESPONSE_STREAMS,
}


def cases(shapes: dict[Any, Any]) -> list[Any]:
    """Return each way with each shape of its provider's."""
    return [
        pytest.param(translation, make, id=f"{way}, {name}")
        for way, (translation, _, _) in WAYS.items()
        for name, make in shapes[translation.provider].items()
    ]


@pytest.mark.parametrize(("translation", "make"), cases(ANSWERS))
def test_the_work_for_an_answer_grows_with_its_bytes(translation: Translation, make: Callable[[int], Any]) -> None:
    small, large = (msgspec.json.encode(make(size)) for size in (SMALL_BYTES, LARGE_BYTES))

    def work(body: bytes) -> None:
        with suppress(UnreadableResponse):
            answer = translation.parse_response(body, model="asked", provider="mine")
            translation.render_response(answer.body, answer.usage or TokenUsage(), Decimal("0.01"), OPTIONS)

    assert growth(work, small, large) < MAX_GROWTH


@pytest.mark.parametrize(("translation", "make"), cases(STREAMS))
def test_the_work_for_a_stream_grows_with_its_bytes(translation: Translation, make: Callable[[int], Any]) -> None:
    is_named = translation.provider is not CHAT
    small, large = (
        b"".join(sse(msgspec.json.encode(event), event["type"] if is_named else None) for event in make(size))
        + (b"" if is_named else b"data: [DONE]\n\n")
        for size in (SMALL_BYTES, LARGE_BYTES)
    )

    def work(stream: bytes) -> None:
        relay = translation.relay(model="asked", provider="mine", options=OPTIONS, is_cached=True)
        with suppress(StreamFailed, UnreadableResponse):
            parser = SseParser()
            for start in range(0, len(stream), 16_384):
                relay.take(parser.feed(stream[start : start + 16_384]), [])
            relay.final_events(SUMMARY)
            kept = relay.cached_body(SUMMARY.usage)
            if kept is not None:
                b"".join(translation.replay(kept, SUMMARY, OPTIONS))

    assert growth(work, small, large) < MAX_GROWTH


def growth(work: Callable[[bytes], None], small: bytes, large: bytes) -> float:
    """How much more each byte of the large one costs. Tries again while that seems to be too much."""
    work(small)
    best = {small: float("inf"), large: float("inf")}
    found = float("inf")
    for tried in range(TRIES):
        best = {body: min(so_far, cpu_s(work, body)) for body, so_far in best.items()}
        found = best[large] / len(large) / (best[small] / len(small))
        if tried and found < MAX_GROWTH:
            break
    return found


def cpu_s(work: Callable[[bytes], None], body: bytes) -> float:
    """Return the processor's time in seconds, without that of collections, which go by what else is in memory."""
    gc.collect()
    gc.disable()
    try:
        before = time.process_time()
        work(body)
        return time.process_time() - before
    finally:
        gc.enable()
