"""The SSE parser returns whole events, however the network splits the stream, and loses no byte."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.dialects.errors import UnreadableResponse
from domain.dialects.sse import SseParser, sse

STREAM = (
    b'event: message_start\ndata: {"a": "\xc3\xa9"}\n\n'
    b": ping\n\n"
    b"data: one\r\ndata: two\r\n\r\n"
    b"id: 7\nretry: 5\ndata:tight\n\n"
    b"\n\n"
    b"data: [DONE]\n\n"
    b"data: cut"
)
EXPECTED = [
    ("message_start", b'{"a": "\xc3\xa9"}'),
    ("", b""),
    ("", b"one\ntwo"),
    ("", b"tight"),
    ("", b""),
    ("", b"[DONE]"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_splits_of_the_stream_do_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    parser = SseParser()
    events = [event for start, end in itertools.pairwise(edges) for event in parser.feed(STREAM[start:end])]
    assert [(event.name, event.data) for event in events] == EXPECTED
    assert b"".join(event.raw for event in events) + parser.rest() == STREAM
    assert parser.rest() == b"data: cut"


def test_single_bytes_parse_like_the_whole_stream() -> None:
    parser = SseParser()
    events = [event for index in range(len(STREAM)) for event in parser.feed(STREAM[index : index + 1])]
    assert events == SseParser().feed(STREAM)


LINES = st.sampled_from(
    [
        b"data: 1\n",
        b"data: 2\r\n",
        b"data:3\n",
        b"event: e\n",
        b"event:f\n",
        b": c\n",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b"d",
    ]
)


@given(st.lists(LINES, max_size=12))
def test_any_lines_parse_like_their_single_bytes(lines: list[bytes]) -> None:
    stream = b"".join(lines)
    whole, single = SseParser(), SseParser()
    assert whole.feed(stream) == [one for index in range(len(stream)) for one in single.feed(stream[index : index + 1])]
    assert (whole.rest(), whole.pending_bytes) == (single.rest(), len(single.rest()))


def test_last_event_without_a_blank_line_can_be_completed() -> None:
    parser = SseParser()
    assert parser.feed(b"data: last") == []
    assert parser.rest() == b"data: last"
    assert [event.data for event in parser.feed(b"\n\n")] == [b"last"]
    assert parser.rest() == b""


@pytest.mark.parametrize("pieces", [[b"data: 12345\n\n"], [b"data: ", b"12345"]])
def test_an_event_above_the_limit_is_refused(pieces: list[bytes]) -> None:
    parser = SseParser(max_event_bytes=10)
    with pytest.raises(UnreadableResponse):
        [parser.feed(piece) for piece in pieces]


def test_event_limit_applies_to_each_event() -> None:
    assert len(SseParser(max_event_bytes=10).feed(b"data: 1\n\n" * 5)) == 5


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r")), st.sampled_from([None, "error"]))
def test_rendered_request_round_trips(text: str, name: str | None) -> None:
    (event,) = SseParser().feed(sse(text.encode(), name))
    assert event.data.decode() == text
    assert event.name == (name or "")
