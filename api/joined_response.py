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
_NO_PLACE = -1
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
        cycle, body = self._cycle, message.get("body", b"")
        headers = [*cycle.default_headers, *head["headers"]]
        if (
            message.get("more_body", False)
            or not self._takes_body(head["status"], message)
            or not _is_plain(headers, len(body))
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join((*self._lines(head["status"], headers), b"\r\n", body)))
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
        headers = [*cycle.default_headers, *head["headers"]]
        if (
            not part
            or not message.get("more_body", False)
            or not self._takes_body(head["status"], message)
            or not _is_plain(headers, None)
        ):
            return False
        cycle.response_started = cycle.chunked_encoding = True
        cycle.waiting_for_100_continue = False
        chunk = (b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(part), part, b"\r\n")
        cycle.transport.write(b"".join((*self._lines(head["status"], headers), *chunk)))
        return True

    def _takes_body(self, status: int, message: Any) -> bool:
        """Return True if a message is a part of a body that can be written now, behind a head of this status."""
        cycle = self._cycle
        return bool(
            message["type"] == "http.response.body"
            and not cycle.disconnected
            and not cycle.flow.write_paused
            and status >= _LEAST_STATUS_WITH_BODY
            and status not in _WITHOUT_BODY
            and cycle.scope["method"] != "HEAD"
        )

    def _lines(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes]:
        """Return the status line and the headers, without `transfer-encoding` and the blank line behind them."""
        closing = b"\r\n" if self._cycle.keep_alive else b"\r\nconnection: close\r\n"
        return STATUS_LINE[status], b"\r\n".join(map(b": ".join, headers)), closing


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


def _has_length(head: HTTPResponseStartEvent) -> bool:
    return _LENGTH in [name for name, _ in head["headers"]]


def _is_plain(headers: Sequence[tuple[bytes, bytes]], body_bytes: int | None) -> bool:
    """Return True for headers that can be written as they are, and are those of a body of this length; None: of a
    stream, which has no `content-length`.
    """
    names, values = zip(*headers, strict=True) if headers else ((), ())
    place = _place_of_length(names)
    if place is None or (place == _NO_PLACE) != (body_bytes is None):
        return False
    if body_bytes is not None and values[place] != b"%d" % body_bytes:
        return False
    text = b"".join(values)
    return len(text.translate(None, _CONTROL)) == len(text)


@lru_cache(maxsize=MAX_CHECKED)
def _place_of_length(names: tuple[bytes, ...]) -> int | None:
    """Return the place of `content-length` among the names of headers. `_NO_PLACE`: it is not among them. None: uvicorn
    has to write these headers.
    """
    text = b"".join(names)
    is_plain = text.islower() and len(text.translate(None, _NO_NAME)) == len(text)
    if not is_plain or names.count(_LENGTH) > 1 or not _OF_THE_CONNECTION.isdisjoint(names):
        return None
    return names.index(_LENGTH) if _LENGTH in names else _NO_PLACE
