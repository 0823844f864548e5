"""Additions that a vendor may make in the future: members, events and comments that no SDK or gateway knows yet."""

from collections.abc import Iterable, Iterator

from tests.provider.request_model import Frame

MEMBERS = b',"x_tomorrow":{"exact" : 1.50e2, "list":[ null,"\\u00e4" ]}'
COMMENT = b": as of tomorrow\n\n"
EVENT = b'id: 7\nevent: tomorrow\ndata: {"type":"tomorrow", "anything":[1.0, {}]}\n\n'


def add_unknown_frames(frames: Iterable[Frame], *, names_events: bool) -> Iterator[Frame]:
    """Add an unknown member to each event, and unknown events and comments near the start of the stream.

    `names_events` is true if the vendor's events have types.
    """
    between = (COMMENT, EVENT) if names_events else (COMMENT,)
    for number, frame in enumerate(frames):
        is_object = frame.data.endswith(b"}\n\n")
        data = frame.data.removesuffix(b"}\n\n") + MEMBERS + b"}\n\n" if is_object else frame.data
        yield Frame(data=data, is_delta=frame.is_delta)
        if number == 1:
            yield from (Frame(data=added) for added in between)


def add_unknown_member(body: bytes) -> bytes:
    """Add an unknown member to a response in one piece."""
    return body.removesuffix(b"}") + MEMBERS + b"}"
