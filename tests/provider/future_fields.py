"""What a vendor may add tomorrow, which neither the SDKs nor the gateway have heard of: members, events, comments."""

from collections.abc import Iterable, Iterator

from tests.provider.request_model import Frame

MEMBERS = b',"x_tomorrow":{"exact" : 1.50e2, "list":[ null,"\\u00e4" ]}'
COMMENT = b": as of tomorrow\n\n"
EVENT = b'id: 7\nevent: tomorrow\ndata: {"type":"tomorrow", "anything":[1.0, {}]}\n\n'


def frames_of_tomorrow(frames: Iterable[Frame], *, names_events: bool) -> Iterator[Frame]:
    """The same events with a member more, and between the first of them others; `names_events`: the wire has types."""
    between = (COMMENT, EVENT) if names_events else (COMMENT,)
    for number, frame in enumerate(frames):
        is_object = frame.data.endswith(b"}\n\n")
        data = frame.data.removesuffix(b"}\n\n") + MEMBERS + b"}\n\n" if is_object else frame.data
        yield Frame(data=data, is_delta=frame.is_delta)
        if number == 1:
            yield from (Frame(data=added) for added in between)


def answer_of_tomorrow(body: bytes) -> bytes:
    """An answer in one piece with a member more."""
    return body.removesuffix(b"}") + MEMBERS + b"}"
