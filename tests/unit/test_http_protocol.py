"""The limits of a connection before a key is checked, in bytes and in ticks, over a transport without a socket."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from api import http_protocol
from api.client_disconnect import interrupted_by_disconnect, watch_disconnect
from api.connections import Connections, address_group
from api.http_protocol import LimitedHttpProtocol, limited_protocol
from api.joined_response import BODY_FOLLOWS
from domain.errors import ClientDisconnected

HEAD = b"GET /x HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /x HTTP/1.1\r\nhost: x\r\n"
KIB = 1024
UNREAD_TIMEOUT_S = 60

App = Callable[[Any, Any, Any], Awaitable[None]]


class Transport:
    """The client's side of a connection. Records the bytes written to it, and whether it is open."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.written = b""
        self.writes = 0
        self.unread_bytes = 0
        self.is_reading = True
        self.state = "open"

    def get_extra_info(self, name: str) -> Any:
        return {"peername": (self.host, 5000), "sockname": ("127.0.0.1", 3007)}.get(name)

    def write(self, data: bytes) -> None:
        self.written += data
        self.writes += 1

    def set_write_buffer_limits(self, high: int) -> None:
        self.high_water_bytes = high

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.state != "open"

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.state = "half closed" if self.state == "open" else self.state

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"


class Conversation:
    """A connection to an application."""

    def __init__(self, app: App, *, connections: Connections | None = None, host: str = "10.0.0.1") -> None:
        self.refused: list[int] = []
        config = Config(app, http="httptools", ws="none", lifespan="off", access_log=False, log_config=None)
        config.load()
        connections = connections or Connections(limit=10, limit_per_address=10, on_refusal=self.refused.append)
        make = limited_protocol(connections, unread_timeout_s=UNREAD_TIMEOUT_S)
        self.protocol: LimitedHttpProtocol = make(config=config, server_state=ServerState(), app_state={})
        self.transport = Transport(host)
        self.protocol.connection_made(self.transport)

    async def send(self, *pieces: bytes) -> bytes:
        """Send some pieces. Return everything that has been written in response so far."""
        for piece in pieces:
            self.protocol.data_received(piece)
        for _ in range(10):
            await asyncio.sleep(0)
        return self.transport.written

    async def wait(self, seconds: int) -> bytes:
        """Let time pass, one tick per second."""
        for _ in range(seconds):
            self.protocol.on_tick()
        return await self.send()

    @property
    def statuses(self) -> list[int]:
        """Return the statuses of the responses so far."""
        return [int(part[:3]) for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]


Converse = Callable[..., Conversation]


@pytest.fixture
async def converse() -> AsyncIterator[Converse]:
    """Yield a function that opens connections, and close them at the end, so that waiting applications end."""
    opened: list[Conversation] = []

    def begin(app: App, **options: Any) -> Conversation:
        opened.append(Conversation(app, **options))
        return opened[-1]

    yield begin
    for one in opened:
        one.protocol.connection_lost(None)
        await one.send()


class EchoApp:
    """Responds with the length of the body, and records the requests."""

    def __init__(self) -> None:
        self.headers: list[Any] = []
        self.bodies: list[bytes] = []
        self.disconnected = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected += 1
                return
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        self.headers.append(list(scope["headers"]))
        await answer(send, str(len(body)).encode())


class SilentApp:
    """Works on its first request until the test lets it respond, or its client disconnects."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.disconnected = False

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        responding = asyncio.create_task(self.may_answer.wait())
        leaving = asyncio.create_task(receive())
        await asyncio.wait((responding, leaving), return_when=asyncio.FIRST_COMPLETED)
        self.disconnected = self.disconnected or leaving.done()
        responding.cancel()
        leaving.cancel()
        await answer(send, b"late")


class WatchingApp:
    """Works on its requests until their clients disconnect, without a task that listens for it."""

    def __init__(self) -> None:
        self.begun = 0
        self.told: list[str] = []
        self.other_tasks = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await receive()
        before = asyncio.all_tasks()
        async with watch_disconnect(receive) as disconnect:
            self.begun += 1
            self.other_tasks += len(asyncio.all_tasks() - before)
            try:
                await disconnect.or_disconnect(asyncio.sleep(0 if scope["path"] == "/soon" else 60))
            except ClientDisconnected:
                self.told.append("before the answer")
        async with interrupted_by_disconnect(receive) as left:
            with left:
                await asyncio.sleep(0 if scope["path"] == "/soon" else 60)
            self.told += ["in the answer"] if left.has_come else []
        await answer(send, b"late")


async def answer(send: Any, content: bytes) -> None:
    length = (b"content-length", b"%d" % len(content))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": content})


async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
    """Respond without reading the body, like the API to a request without a key."""
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def error_in(written: bytes) -> Any:
    return msgspec.json.decode(written.rpartition(b"\r\n\r\n")[2])["error"]


async def test_answers_requests_in_order(converse: Converse) -> None:
    app = EchoApp()
    talk = converse(app)
    await talk.send(HEAD + b"\r\n" + POST + b"content-length: 3\r\n\r\nabc" + HEAD + b"\r\n")
    assert (app.bodies, talk.statuses) == ([b"", b"abc", b""], [200, 200, 200])
    await talk.send(POST[:5], POST[5:] + b"content-length: 200000\r\n\r\n", b"x" * 150_000, b"x" * 50_000 + HEAD)
    await talk.send(b"\r\n")
    assert (len(app.bodies[3]), talk.statuses, talk.transport.state) == (200_000, [200] * 5, "open")


async def test_who_watches_is_told_that_the_client_has_gone(converse: Converse) -> None:
    app = WatchingApp()
    talk = converse(app)
    await talk.send(POST + b"content-length: 1\r\n\r\nx")
    assert (app.begun, app.told) == (1, [])
    talk.protocol.connection_lost(None)
    await talk.send()
    assert (app.told, app.other_tasks) == (["before the answer", "in the answer"], 0)


async def test_who_watches_a_client_that_has_gone_is_told(converse: Converse) -> None:
    app = WatchingApp()
    talk = converse(app)
    talk.protocol.data_received(HEAD + b"\r\n")
    talk.protocol.connection_lost(None)
    await talk.send()
    assert app.told == ["before the answer", "in the answer"]


async def test_who_watches_is_told_of_a_body_that_is_refused(converse: Converse) -> None:
    app = WatchingApp()
    talk = converse(app)
    await talk.send(POST + b"content-length: 100\r\n\r\n", b"x")
    await talk.wait(12)
    assert (talk.statuses, app.told) == ([408], ["before the answer", "in the answer"])


async def test_a_watch_that_is_over_is_not_told(converse: Converse) -> None:
    app = WatchingApp()
    talk = converse(app)
    await talk.send(b"GET /soon HTTP/1.1\r\nhost: x\r\n\r\n")
    talk.protocol.connection_lost(None)
    await talk.send()
    assert (talk.statuses, app.begun, app.told) == ([200], 1, [])


async def test_who_watches_reads_on_behind_a_pipelined_request(converse: Converse) -> None:
    app = WatchingApp()
    talk = converse(app)
    await talk.send((HEAD + b"\r\n") * 2)
    assert (app.begun, talk.transport.is_reading) == (1, True)
    talk.protocol.connection_lost(None)
    await talk.send()
    assert (app.begun, app.told) == (1, ["before the answer", "in the answer"])


async def test_an_answered_request_is_freed_without_the_garbage_collector(converse: Converse) -> None:
    requests: list[weakref.ref[Any]] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        requests.append(weakref.ref(receive.__self__))
        await answer(send, b"ok")

    talk = converse(app)
    gc.disable()
    try:
        await talk.send(HEAD + b"\r\n")
        await talk.send(HEAD + b"\r\n")
        assert requests[0]() is None
    finally:
        gc.enable()


class SaysApp:
    """Sends these messages."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        for message in self.messages:
            await send(dict(message))


def head(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes, *, more_body: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more_body}


TWO_BYTES = (b"content-length", b"2")


async def test_head_and_body_of_an_answer_go_out_in_one_write(converse: Converse) -> None:
    talk = converse(SaysApp(head(TWO_BYTES, (b"x-a", "ä".encode("latin-1"))), part(b"ok")))
    written = await talk.send(HEAD + b"\r\n")
    assert (talk.transport.writes, written) == (1, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: \xe4\r\n\r\nok")
    await talk.send(HEAD + b"\r\n")
    assert (talk.transport.writes, talk.statuses, talk.transport.state) == (2, [200, 200], "open")


async def test_head_of_a_stream_goes_out_before_its_first_part(converse: Converse) -> None:
    talk = converse(SaysApp(head()))
    assert (await talk.send(HEAD + b"\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("lines", "state"), [(b"", "open"), (b"connection: close\r\n", "closed")])
async def test_head_of_a_stream_goes_out_with_a_part_that_is_there(
    lines: bytes, state: str, converse: Converse
) -> None:
    begins: Any = {**head(), BODY_FOLLOWS: True}
    last: Any = {"type": "http.response.body", "body": b"ends", "more_body": False}
    talk = converse(SaysApp(begins, {**last, "body": b"begins", "more_body": True}, last))
    written = await talk.send(HEAD + lines + b"\r\n")
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.endswith(b"\r\n\r\n6\r\nbegins\r\n4\r\nends\r\n0\r\n\r\n")
    assert (talk.transport.writes, talk.transport.state) == (2, state)


class BreaksApp:
    """Sends a head, and fails, or returns, before the body."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send(head(TWO_BYTES))
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [ValueError("crashed"), None], ids=["it crashes", "it returns"])
async def test_an_application_that_ends_between_head_and_body_is_answered_for(
    error: Exception | None, converse: Converse
) -> None:
    talk = converse(BreaksApp(error))
    written = await talk.send(HEAD + b"\r\n")
    assert (talk.statuses, talk.transport.state) == ([500], "closed")
    assert written.endswith(b"connection: close\r\n\r\nInternal Server Error")


async def test_a_client_that_wants_no_further_answer_is_told_that_there_is_none(converse: Converse) -> None:
    talk = converse(SaysApp(head(TWO_BYTES), part(b"ok")))
    written = await talk.send(HEAD + b"connection: close\r\n\r\n")
    assert (written.count(b"connection: close"), talk.transport.writes, talk.transport.state) == (1, 1, "closed")


@pytest.mark.parametrize(
    ("request_head", "messages", "written"),
    [
        (b"HEAD", (head(TWO_BYTES), part(b"ok")), b"content-length: 2\r\n\r\n"),
        (b"GET", (head(), part(b"ok")), b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (b"GET", (head(TWO_BYTES), part(b"o", more_body=True), part(b"k")), b"content-length: 2\r\n\r\nok"),
        (b"GET", (head(status=204), part(b"")), b"204 No Content\r\n\r\n"),
        (b"GET", (head((b"connection", b"close"), TWO_BYTES), part(b"ok")), b"content-length: 2\r\n\r\nok"),
    ],
    ids=["no body is asked for", "no length", "two parts", "no body is allowed", "the connection is to close"],
)
async def test_what_is_no_whole_answer_is_sent_as_uvicorn_does(
    request_head: bytes, messages: tuple[dict[str, Any], ...], written: bytes, converse: Converse
) -> None:
    talk = converse(SaysApp(*messages))
    assert (await talk.send(request_head + HEAD[3:] + b"\r\n")).endswith(written)


@pytest.mark.parametrize("header", [(b"x-a", b"1\r\nx-b: 2"), (b"x-a: 1\r\nx-b", b"2"), (b"x a", b"1")])
async def test_no_header_brings_another_with_it(header: tuple[bytes, bytes], converse: Converse) -> None:
    talk = converse(SaysApp(head(TWO_BYTES, header), part(b"ok")))
    written = await talk.send(HEAD + b"\r\n")
    assert (b"x-b" in written, b"x a" in written, b"200" in written) == (False, False, False)


async def test_an_answer_is_as_long_as_its_head_says(converse: Converse) -> None:
    talk = converse(SaysApp(head((b"content-length", b"3")), part(b"ok")))
    await talk.send(HEAD + b"\r\n")
    assert talk.transport.state == "closed"


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([HEAD + b"a: ", *[b"x" * KIB] * 64], 431),
        ([HEAD + b"a: " + b"x" * 250 * KIB], 431),
        ([b"\r\n" * 40 * KIB], 431),
        ([HEAD, b"a: b\r\n" * 100 + b"\r\n"], 431),
        ([b"GET /" + b"x" * 250 * KIB], 414),
        ([b"GET /", *[b"x" * KIB] * 64], 414),
        ([b"GET /" + b"x" * 8 * KIB + b" HTTP/1.1\r\nhost: x\r\n\r\n"], 414),
        ([POST + b"transfer-encoding: chunked\r\n\r\n", b"1;" + b"e" * 70 * KIB], 431),
        ([POST + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: ", *[b"x" * KIB] * 64], 431),
        ([b"\x16\x03\x01 this is TLS"], 400),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else f"{value[0][:20]!r} {len(value)}",
)
async def test_text_without_end_is_refused_and_the_connection_ends(
    pieces: list[bytes], status: int, converse: Converse
) -> None:
    talk = converse(EchoApp())
    written = await talk.send(*pieces)
    assert (talk.statuses, talk.refused, talk.transport.state) == ([status], [status], "half closed")
    assert b"connection: close" in written
    assert error_in(written)["requestId"].encode() in written
    await talk.send(b"x" * 250 * KIB, HEAD + b"\r\n")
    assert talk.statuses == [status]
    await talk.wait(http_protocol.LINGER_S + 1)
    assert talk.transport.state == "aborted"


async def test_request_just_within_the_limits_is_answered(converse: Converse) -> None:
    talk = converse(EchoApp())
    await talk.send(HEAD + b"a: b\r\n" * (http_protocol.MAX_HEADERS - 1) + b"\r\n")
    await talk.send(b"GET /" + b"x" * (8 * KIB - 1) + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    await talk.send(HEAD + b"a: ", *[b"x" * KIB] * 63, b"\r\n\r\n")
    assert talk.statuses == [200, 200, 200]


async def test_trailers_do_not_become_headers(converse: Converse) -> None:
    app = EchoApp()
    talk = converse(app)
    await talk.send(POST + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nauthorization: y\r\n\r\n")
    assert (app.bodies, talk.statuses) == ([b"x"], [200])
    assert "authorization" not in str(app.headers)


async def test_a_head_has_its_time(converse: Converse) -> None:
    silent, slow, later = (converse(EchoApp()) for _ in range(3))
    await silent.wait(http_protocol.HEAD_TIMEOUT_S)
    assert (silent.transport.state, silent.transport.written) == ("closed", b"")
    await slow.wait(http_protocol.HEAD_TIMEOUT_S - 1)
    await slow.send(HEAD)
    assert slow.statuses == []
    await slow.wait(1)
    assert slow.statuses == [408]
    await later.send(HEAD + b"\r\n")
    await later.wait(http_protocol.IDLE_TIMEOUT_S - 1)
    await later.send(HEAD)
    await later.wait(http_protocol.HEAD_TIMEOUT_S - 1)
    assert later.statuses == [200]
    await later.wait(1)
    assert later.statuses == [200, 408]


async def test_an_idle_connection_is_closed(converse: Converse) -> None:
    talk = converse(EchoApp())
    await talk.send(HEAD + b"\r\n")
    await talk.wait(http_protocol.IDLE_TIMEOUT_S - 1)
    assert talk.transport.state == "open"
    await talk.wait(1)
    assert (talk.statuses, talk.transport.state) == ([200], "closed")


async def test_slow_body_is_refused_and_disconnects_the_application(converse: Converse) -> None:
    app = EchoApp()
    talk = converse(app)
    await talk.send(POST + b"content-length: 100000\r\n\r\n", b"x" * 10)
    await talk.wait(http_protocol.BODY_GRACE_S)
    assert talk.statuses == []
    await talk.wait(1)
    assert (talk.statuses, app.disconnected, app.bodies) == ([408], 1, [])


async def test_a_body_at_the_least_rate_is_taken(converse: Converse) -> None:
    talk = converse(EchoApp())
    await talk.send(POST + b"content-length: 40960\r\n\r\n")
    for _ in range(40):
        await talk.send(b"x" * KIB)
        await talk.wait(1)
    assert talk.statuses == [200]


async def test_time_that_we_take_is_not_held_against_the_client(converse: Converse) -> None:
    app = SilentApp()
    large, asking = converse(app), converse(refuse)
    await large.send(POST + b"content-length: 1000000\r\n\r\n", b"x" * 70 * KIB, b"x" * 70 * KIB)
    large.protocol.flow.pause_reading()
    await large.wait(1_000)
    assert (large.statuses, large.transport.state) == ([], "open")

    async def looks_for_the_key_first(_scope: Any, _receive: Any, send: Any) -> None:
        await app.may_answer.wait()
        await answer(send, b"")

    asking = converse(looks_for_the_key_first)
    await asking.send(POST + b"expect: 100-continue\r\ncontent-length: 1000000\r\n\r\n")
    await asking.wait(1_000)
    assert asking.statuses == []
    app.may_answer.set()
    await asking.send()
    assert asking.statuses == [200]


async def test_refused_body_is_discarded_up_to_a_limit(converse: Converse) -> None:
    talk = converse(refuse)
    size = http_protocol.MAX_DISCARDED_BYTES + 2 * KIB * KIB
    await talk.send(POST + b"content-length: %d\r\n\r\n" % size + b"x" * KIB)
    assert (talk.statuses, len(talk.protocol.cycle.body)) == ([401], 0)
    await talk.send(*[b"x" * KIB * KIB] * 63)
    assert (talk.transport.state, len(talk.protocol.cycle.body)) == ("open", 0)
    await talk.send(b"x" * KIB * KIB)
    assert (talk.statuses, talk.refused, talk.transport.state) == ([401], [413], "closed")


async def test_the_body_of_a_refused_request_may_not_stay_away(converse: Converse) -> None:
    talk = converse(refuse)
    await talk.send(POST + b"content-length: 100\r\n\r\n")
    await talk.wait(http_protocol.BODY_GRACE_S + 1)
    assert (talk.statuses, talk.transport.state) == ([401], "closed")


async def test_a_refusal_waits_for_the_answers_before_it(converse: Converse) -> None:
    app = SilentApp()
    talk = converse(app)
    await talk.send(HEAD + b"\r\n", b"GET /" + b"x" * 70 * KIB)
    await talk.wait(1_000)
    assert (talk.statuses, talk.transport.state) == ([], "open")
    app.may_answer.set()
    await talk.send()
    assert (talk.statuses, talk.transport.state) == ([200], "closed")


async def test_only_so_many_requests_of_a_connection_wait(converse: Converse) -> None:
    app = SilentApp()
    talk = converse(app)
    await talk.send((HEAD + b"\r\n") * 5_000)
    assert len(talk.protocol.pipeline) == http_protocol.MAX_PIPELINED
    app.may_answer.set()
    for _ in range(http_protocol.MAX_PIPELINED):
        await talk.send()
    assert talk.statuses == [200] * (http_protocol.MAX_PIPELINED + 1)
    assert talk.transport.state == "closed"


async def test_running_request_hears_its_disconnect(converse: Converse) -> None:
    app = SilentApp()
    talk = converse(app)
    await talk.send((HEAD + b"\r\n") * 3)
    talk.protocol.connection_lost(None)
    await talk.send()
    assert app.disconnected


@pytest.mark.parametrize("is_complete", [True, False])
async def test_a_client_that_takes_nothing_is_cut_off(is_complete: bool, converse: Converse) -> None:
    app = EchoApp() if is_complete else SilentApp()
    talk = converse(app)
    await talk.send(HEAD + b"\r\n")
    talk.transport.unread_bytes = 300 * KIB
    talk.protocol.pause_writing()
    await talk.wait(UNREAD_TIMEOUT_S)
    assert talk.transport.state == "open"
    await talk.wait(1)
    assert talk.transport.state == "aborted"


async def test_slow_reader_is_not_cut_off(converse: Converse) -> None:
    talk = converse(SilentApp())
    await talk.send(HEAD + b"\r\n")
    talk.protocol.pause_writing()
    for left_kib in range(300, 0, -1):
        talk.transport.unread_bytes = left_kib * KIB
        await talk.wait(1)
    assert talk.transport.state == "open"


async def test_a_stream_that_still_grows_is_not_judged(converse: Converse) -> None:
    talk = converse(SilentApp())
    await talk.send(HEAD + b"\r\n")
    for size in range(1, 500):
        talk.transport.unread_bytes = size
        await talk.wait(1)
    assert talk.transport.state == "open"


async def test_connections_are_limited_per_address(converse: Converse) -> None:
    refused: list[int] = []
    connections = Connections(limit=4, limit_per_address=2, on_refusal=refused.append)
    first, second, third, other = (
        converse(EchoApp(), connections=connections, host=host)
        for host in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2")
    )
    for talk in (first, second, third, other):
        await talk.send(HEAD + b"\r\n")
    assert [talk.statuses for talk in (first, second, third, other)] == [[200], [200], [429], [200]]
    beyond = converse(EchoApp(), connections=connections, host="10.0.0.3")
    assert (beyond.statuses, beyond.transport.state, refused) == ([503], "closed", [429, 503])
    for talk in (first, third, beyond):
        talk.protocol.connection_lost(None)
    again = converse(EchoApp(), connections=connections, host="10.0.0.1")
    await again.send(HEAD + b"\r\n")
    assert (again.statuses, connections.count) == ([200], 3)


async def test_fault_in_one_connection_spares_the_timers_of_others(converse: Converse) -> None:
    connections = Connections(limit=4, limit_per_address=2, on_refusal=lambda _: None)

    class Broken:
        aborted = False

        def on_tick(self) -> None:
            raise RuntimeError("broken")

        def abort(self) -> None:
            self.aborted = True
            connections.remove(self, "10.0.0.9")

    broken = Broken()
    connections.add(broken, "10.0.0.9")
    talk = converse(EchoApp(), connections=connections)
    for _ in range(http_protocol.HEAD_TIMEOUT_S):
        connections.tick()
    assert (talk.transport.state, broken.aborted) == ("closed", True)


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses_of_one_network_count_as_one(host: str, group: str) -> None:
    assert address_group(host) == group
