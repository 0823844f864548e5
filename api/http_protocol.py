"""HTTP/1.1 as uvicorn speaks it, with limits on what a client may send, or leave unsent, before any key is looked at.

The limits on sizes hold before the parser sees the bytes. Those on time are counted in ticks (`api/connections.py`). A
refusal is a small JSON answer in the native error shape; the connection is closed behind it. Knows no route and no key.

uvicorn's own protocol limits neither the head nor the time: its parser joins the pieces of a header value that never
ends, at a cost that grows with the square of its length.
"""

import enum
import math
from collections.abc import Callable
from typing import Any

import httptools
import msgspec
from msgspec import Struct
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.connections import MAX_UNREAD_BYTES, TICK_S, Connections, address_group
from api.joined_response import JoinedResponse
from infra.ids import new_id

MAX_HEAD_BYTES = 64 * 1024
"""Of a request line and headers; and of trailers and chunk extensions between two bytes of a body."""
MAX_HEADERS = 100
MAX_URL_BYTES = 8 * 1024
MAX_PIPELINED = 16
"""Requests that wait for the answer to an earlier one of the same connection."""
MAX_DISCARDED_BYTES = 64 * 1024 * 1024
"""Of a body whose request has been answered already. Reading it lets the client see the answer."""
HEAD_TIMEOUT_S = 15
"""From the connection, or from the first byte of a later request, to the end of the head."""
IDLE_TIMEOUT_S = 75
"""Between an answer and the next request."""
BODY_GRACE_S = 10
LEAST_BYTES_PER_S = 1024
"""What a client must send of a body after the grace, and take of an answer, on average. Pauses of ours do not count."""
LINGER_S = 2
"""Between a refusal and the end of the connection, so that a client that is still sending sees it."""
RETRY_AFTER_S = 1


class Refusal(Struct, frozen=True, kw_only=True):
    """An answer that the protocol gives itself."""

    status: int
    code: str
    message: str
    is_retryable: bool = False


HEAD_TOO_LARGE = Refusal(
    status=431,
    code="HEADERS_TOO_LARGE",
    message=f"a request may have {MAX_HEADERS} headers, and {MAX_HEAD_BYTES} bytes of them",
)
URL_TOO_LONG = Refusal(status=414, code="URL_TOO_LONG", message=f"a URL may have {MAX_URL_BYTES} bytes")
HEAD_TOO_SLOW = Refusal(
    status=408, code="REQUEST_TIMEOUT", message=f"the request's head did not arrive within {HEAD_TIMEOUT_S} s"
)
BODY_TOO_SLOW = Refusal(
    status=408,
    code="REQUEST_TIMEOUT",
    message=f"the request's body came with less than {LEAST_BYTES_PER_S} bytes a second",
)
BODY_TOO_LARGE = Refusal(
    status=413, code="TOO_LARGE", message=f"{MAX_DISCARDED_BYTES} bytes of a body came behind the answer"
)
NOT_HTTP = Refusal(status=400, code="VALIDATION_ERROR", message="this is not an HTTP request")
TOO_MANY_PIPELINED = Refusal(
    status=429, code="RATE_LIMITED", message=f"{MAX_PIPELINED} requests of a connection may wait", is_retryable=True
)
ADDRESS_FULL = Refusal(
    status=429,
    code="RATE_LIMITED",
    message="too many connections from this address (GATEWAY_MAX_CONNECTIONS_PER_ADDRESS)",
    is_retryable=True,
)
PROCESS_FULL = Refusal(
    status=503, code="OVERLOADED", message="this process has as many connections as it takes", is_retryable=True
)

_encode = msgspec.json.encode


class _Stage(enum.Enum):
    """What is read from a connection at the moment."""

    BETWEEN = enum.auto()
    """No byte of the next request has come."""
    HEAD = enum.auto()
    BODY = enum.auto()
    REFUSED = enum.auto()
    """Nothing more is read: what comes is discarded."""


class _Refused(Exception):
    """A limit was passed inside a callback of the parser, which is to stop."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def limited_protocol(connections: Connections, *, unread_timeout_s: int) -> Callable[..., "LimitedHttpProtocol"]:
    """What uvicorn makes a protocol with, for each connection: `http=` of its `Config`.

    Within `unread_timeout_s`, a client that has bytes waiting for it takes as many as `LEAST_BYTES_PER_S` asks for, or
    all.
    """

    def make(*args: Any, **kwargs: Any) -> LimitedHttpProtocol:
        return LimitedHttpProtocol(connections, unread_timeout_s, *args, **kwargs)

    return make


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Ages by ticks instead of uvicorn's timer for each request, and never changes its protocol."""

    def __init__(self, connections: Connections, unread_timeout_s: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self._unread_timeout_s = unread_timeout_s
        self._address = ""
        self._stage = _Stage.BETWEEN
        self._ticks = 0
        """In this stage, while the client had something to do."""
        self._piece_bytes = 0
        """Of what the parser is being fed with."""
        self._text_bytes = 0
        """Read since the last byte of a body, or since the last request ended: of a head, trailers, chunk framing. The
        position of such a byte in its piece is not known, so none of that piece is counted.
        """
        self._body_bytes = 0
        self._running: RequestResponseCycle | None = None
        """The request that the application is working on. `self.cycle` is the last that was read."""
        self._unread_ticks = 0
        self._unread_bytes = 0
        """Waiting to be sent when `_unread_ticks` was 0."""

    # The connection

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and refuse it if there are too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=MAX_UNREAD_BYTES)
        self._address = address_group(self.client[0]) if self.client else ""
        match self._connections.add(self, self._address):
            case "address_full":
                self._refuse(ADDRESS_FULL)
            case "process_full":
                self._refuse(PROCESS_FULL)
                self.transport.close()
            case "admitted":
                pass

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being worked on too: uvicorn tells only the last that was read."""
        self._connections.remove(self, self._address)
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            _disconnect(self._running)
        super().connection_lost(exc)

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    # What comes in

    def data_received(self, data: bytes) -> None:
        """Feed the parser, a head in pieces within its limit; refuse a head or chunk framing that reaches the limit."""
        if self._stage is _Stage.REFUSED:
            return
        try:
            while data:
                room = len(data) if self._stage is _Stage.BODY else MAX_HEAD_BYTES - self._text_bytes
                piece, data = data[:room], data[room:]
                self._piece_bytes = len(piece)
                self.parser.feed_data(piece)
                self._text_bytes += self._piece_bytes
                if self._text_bytes >= MAX_HEAD_BYTES:
                    in_url = self._stage is _Stage.HEAD and len(self.url) > MAX_URL_BYTES
                    self._refuse(URL_TOO_LONG if in_url else HEAD_TOO_LARGE)
                    return
        except _Refused as error:
            self._refuse(error.refusal)
        except httptools.HttpParserUpgrade:
            self._text_bytes = 0  # nothing but HTTP/1.1 is spoken here, and the request is answered as one
        except httptools.HttpParserError as error:
            reason = error.__context__
            self._refuse(reason.refusal if isinstance(reason, _Refused) else NOT_HTTP)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._stage = _Stage.HEAD
        if self._running is not None:  # the first head's time began with the connection
            self._ticks = 0

    def on_headers_complete(self) -> None:
        """Check the head, and hand the request to the application."""
        if len(self.url) > MAX_URL_BYTES:
            raise _Refused(URL_TOO_LONG)
        if len(self.headers) > MAX_HEADERS:
            raise _Refused(HEAD_TOO_LARGE)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Refused(TOO_MANY_PIPELINED)
        self._stage = _Stage.BODY
        self._ticks = 0
        self._body_bytes = 0
        self._text_bytes = -self._piece_bytes
        super().on_headers_complete()
        self.headers = []  # trailers come here, and are no headers of the request

    def on_body(self, body: bytes) -> None:
        """A piece of a body; of one whose request is answered, only so much that the client sees the answer."""
        self._body_bytes += len(body)
        self._text_bytes = -self._piece_bytes
        cycle = self.cycle
        if cycle.response_complete:
            if self._body_bytes > MAX_DISCARDED_BYTES:
                raise _Refused(BODY_TOO_LARGE)
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._stage = _Stage.BETWEEN
        self._ticks = 0
        self._text_bytes = -self._piece_bytes
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # What goes out

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.disconnect_callbacks = []  # type: ignore[attr-defined]  # `api/client_disconnect.py` adds to them
        cycle.send = JoinedResponse(cycle).send  # type: ignore[method-assign]  # uvicorn makes its cycles itself
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Let go of a body that was not read, and go on with the next request, or wait for one."""
        assert self._running is not None, "what is answered was started"
        self._running.body = bytearray()
        del self._running.send  # it refers back: only the garbage collector would free the request
        self._ticks = 0
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    # Time

    def on_tick(self) -> None:
        """Count one tick, and end the connection if it has reached a limit."""
        if self._is_unread():
            self.transport.abort()
        elif self._stage is _Stage.REFUSED:
            self._tick_refused()
        elif not self.flow.read_paused and not self.transport.is_closing():
            self._ticks += 1
            self._check_age(self._ticks * TICK_S)

    def _check_age(self, age_s: float) -> None:
        is_answered = self._running is None or self.cycle.response_complete
        match self._stage:
            case _Stage.BETWEEN if self._running is None and age_s >= HEAD_TIMEOUT_S:
                self.transport.close()
            case _Stage.BETWEEN if is_answered and age_s >= IDLE_TIMEOUT_S:
                self.transport.close()
            case _Stage.HEAD if age_s >= HEAD_TIMEOUT_S:
                self._refuse(HEAD_TOO_SLOW)
            case _Stage.BODY if self.cycle.waiting_for_100_continue and not is_answered:
                self._ticks = 0
            case _Stage.BODY if self._body_bytes < LEAST_BYTES_PER_S * (age_s - BODY_GRACE_S):
                self._refuse(BODY_TOO_SLOW)

    def _is_unread(self) -> bool:
        """Whether the client has taken too little for too long of what waits for it.

        Judged only while nothing is added to it: the application waits for room, or has finished.
        """
        unread = self.transport.get_write_buffer_size()
        is_growing = self._running is not None and not self._running.response_complete and not self.flow.write_paused
        if not unread or (is_growing and not self.transport.is_closing()):
            self._unread_ticks = 0
            return False
        if not self._unread_ticks or self._unread_bytes - unread >= LEAST_BYTES_PER_S * self._unread_timeout_s:
            self._unread_ticks, self._unread_bytes = 0, unread
        self._unread_ticks += 1
        return self._unread_ticks * TICK_S > self._unread_timeout_s

    def _tick_refused(self) -> None:
        """End a refused connection once the client has had time to read, and earlier requests are answered."""
        if self._running is not None and not self._running.response_complete and not self._running.disconnected:
            return
        self._ticks += 1
        if self._ticks * TICK_S > LINGER_S:
            self.transport.abort()

    # Refusals

    def _refuse(self, refusal: Refusal) -> None:
        """Take nothing more from this connection. Send the refusal, if it is this request's turn, and close."""
        self._connections.on_refusal(refusal.status)
        stage, self._stage, self._ticks = self._stage, _Stage.REFUSED, 0
        cycle = self.cycle
        if self._running is None or (cycle.response_complete and stage is not _Stage.BODY):
            self._answer(refusal)
        elif stage is not _Stage.BODY:
            cycle.keep_alive = False  # those before it are answered first; the connection closes behind the last
        elif cycle is self._running and not cycle.response_started:
            _disconnect(cycle)
            self._answer(refusal)
        else:
            self.transport.close()

    def _answer(self, refusal: Refusal) -> None:
        request_id = new_id("req")
        shown = {"code": refusal.code, "message": refusal.message, "requestId": request_id}
        content = _encode({"success": False, "error": shown})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
        ]
        if refusal.is_retryable:
            headers.append((b"retry-after", b"%d" % math.ceil(RETRY_AFTER_S)))
        lines = [STATUS_LINE[refusal.status], *(name + b": " + value + b"\r\n" for name, value in headers)]
        self.flow.resume_reading()  # what the client still sends is discarded, or it would not get to read this
        self.transport.write(b"".join((*lines, b"\r\n", content)))
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Have the application hear that its client has gone."""
    cycle.disconnected = True
    cycle.message_event.set()
    for callback in cycle.disconnect_callbacks:  # type: ignore[attr-defined]  # as above
        callback()
