"""Sends the head and the body of an answer in one write, if both are there. uvicorn makes a write of each.

Each write is a call of the system and may wake the client's process. What uvicorn writes for the head of a stream and
for its first part is gathered. Whatever is neither that nor a short answer of a known length is left to uvicorn's own
`send`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from litestar.types import HTTPResponseStartEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_LEAST_STATUS_WITH_BODY = 200
_WITHOUT_BODY = frozenset({204, 304})
_CONTROL = bytes(code for code in (*range(32), 127) if code != ord("\t"))
_NO_NAME = _CONTROL + b'\t ()<>@,;:[]={}"\\'
"""Bytes that no header's name has (RFC 9110, 5.6.2)."""
_OF_THE_CONNECTION = frozenset({b"connection", b"transfer-encoding"})
_LENGTH = b"content-length"
BODY_FOLLOWS = "gateway.body_follows"
"""Set in the head of a stream whose first part is sent behind it at once."""
MAX_CHECKED = 256
"""The sets of names of an answer's headers that are remembered: there are a few for each call."""


class JoinedResponse:
    """The `send` of one request's application. Holds the head of an answer back until its body comes, if its length is
    known or its first part is there; the head of any other stream goes at once.
    """

    __slots__ = ("_cycle", "_head")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._head: HTTPResponseStartEvent | None = None

    async def send(self, message: Any) -> None:
        """Send what an application sends. See https://asgi.readthedocs.io/en/latest/specs/www.html.

        A second head takes the place of one that is held: the application has failed in between, and the answer is 500.
        """
        head, self._head = self._head, None
        usual = RequestResponseCycle.send
        is_head = message["type"] == "http.response.start"
        if head is None or is_head:
            if is_head and not self._cycle.response_started and (BODY_FOLLOWS in message or _has_length(message)):
                self._head = message
            else:
                await usual(self._cycle, message)
        elif BODY_FOLLOWS in head:
            if self._write_first(head, message):
                return
            with _GatheredWrites(self._cycle):
                await usual(self._cycle, head)  # type: ignore[arg-type]  # Litestar's types and uvicorn's are the same
                await usual(self._cycle, message)
        elif not self._write_whole(head, message):
            await usual(self._cycle, head)  # type: ignore[arg-type]  # Litestar's types and uvicorn's are the same
            await usual(self._cycle, message)

    def _write_whole(self, head: HTTPResponseStartEvent, message: Any) -> bool:
        """Write an answer whose body comes in one piece, as long as its head says. False: it is none, or is not now."""
        cycle, status = self._cycle, head["status"]
        body = message.get("body", b"")
        if (
            message["type"] != "http.response.body"
            or message.get("more_body", False)
            or cycle.disconnected
            or cycle.flow.write_paused
            or status in _WITHOUT_BODY
            or status < _LEAST_STATUS_WITH_BODY
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        headers = [*cycle.default_headers, *head["headers"]]
        if not _is_plain(headers, len(body)):
            return False
        lines = b"\r\n".join(map(b": ".join, headers))
        closing = b"\r\n" if cycle.keep_alive else b"\r\nconnection: close\r\n"
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join((STATUS_LINE[status], lines, closing, b"\r\n", body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True

    def _write_first(self, head: HTTPResponseStartEvent, message: Any) -> bool:
        """Write the head of a stream and its first part, behind which others come. False: as in `_write_whole`.

        uvicorn looks at each header with two expressions: this is a tenth fewer calls for a stream.
        """
        cycle, part = self._cycle, message.get("body", b"")
        if (
            message["type"] != "http.response.body"
            or not part
            or not message.get("more_body", False)
            or cycle.disconnected
            or cycle.flow.write_paused
            or head["status"] in _WITHOUT_BODY
            or head["status"] < _LEAST_STATUS_WITH_BODY
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        headers = [*cycle.default_headers, *head["headers"]]
        if not _is_plain_stream(headers):
            return False
        lines = [b"%b: %b\r\n" % header for header in headers]
        closing = b"" if cycle.keep_alive else b"connection: close\r\n"
        cycle.response_started = cycle.chunked_encoding = True
        cycle.waiting_for_100_continue = False
        first = (closing, b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(part), part, b"\r\n")
        cycle.transport.write(b"".join((STATUS_LINE[head["status"]], *lines, *first)))
        return True


class _GatheredWrites:
    """In the place of the transport of a request for as long as its block lasts: makes one write of several."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._written: list[bytes] = []

    def __enter__(self) -> None:
        self._cycle.transport = self  # type: ignore[assignment]  # it has what uvicorn calls while it sends

    def __exit__(self, *_: object) -> None:
        self._cycle.transport = self._transport
        self._flush()

    def write(self, data: bytes) -> None:
        """Keep what is to be written."""
        self._written.append(data)

    def close(self) -> None:
        """Close the transport behind what was written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written:
            self._transport.write(b"".join(written))


def _is_plain_stream(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """True for headers that can be written as they are, and are those of a body of no known length."""
    names = [name for name, _ in headers]
    name_text, value_text = b"".join(names), b"".join([value for _, value in headers])
    return (
        name_text.islower()
        and _LENGTH not in names
        and _OF_THE_CONNECTION.isdisjoint(names)
        and len(name_text.translate(None, _NO_NAME)) == len(name_text)
        and len(value_text.translate(None, _CONTROL)) == len(value_text)
    )


def _has_length(head: HTTPResponseStartEvent) -> bool:
    return _LENGTH in [name for name, _ in head["headers"]]


def _is_plain(headers: Sequence[tuple[bytes, bytes]], body_bytes: int) -> bool:
    """True for headers that can be written as they are, and are those of a body of this length."""
    names, values = zip(*headers, strict=True)
    place = _place_of_length(names)
    if place is None or values[place] != b"%d" % body_bytes:
        return False
    text = b"".join(values)
    return len(text.translate(None, _CONTROL)) == len(text)


@lru_cache(maxsize=MAX_CHECKED)
def _place_of_length(names: tuple[bytes, ...]) -> int | None:
    """Return the place of `content-length` among these header names. None: uvicorn has to write the headers."""
    text = b"".join(names)
    is_plain = text.islower() and len(text.translate(None, _NO_NAME)) == len(text)
    if not is_plain or names.count(_LENGTH) != 1 or not _OF_THE_CONNECTION.isdisjoint(names):
        return None
    return names.index(_LENGTH)
