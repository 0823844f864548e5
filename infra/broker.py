"""Connects every process to NATS in the same way. Knows no subject and no message."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from infra.broker_access import ANONYMOUS, BrokerAccess

CONNECT_TIMEOUT_S = 2
"""For one server: if it accepts and stays silent, the next one is tried."""
FIRST_CONNECT_TIMEOUT_S = 20.0
"""Time to reach a first server, over all URLs. nats-py itself would try for ever."""
RECONNECT_WAIT_S = 0.25
"""Before the same server is tried again; another one is tried at once."""
PING_INTERVAL_S = 1
MAX_OUTSTANDING_PINGS = 2
"""A server that keeps the connection but does not reply is left after `PING_INTERVAL_S` times one more than this."""
FLUSH_TIMEOUT_S = 2
"""For a round trip, and for a publish that finds `PENDING_BYTES_LIMIT` waiting."""
CLOSE_TIMEOUT_S = 5.0
PENDING_BYTES_LIMIT = 64 * 1024 * 1024
"""Bytes that may wait for a lost connection before a publish fails."""
FOREVER = -1

_HEAD = re.compile(
    r"PUB [^ \t\r\n]+ [^ \t\r\n]* [0-9]+\r\n"
    r"|HPUB [^ \t\r\n]+ [^ \t\r\n]* [0-9]+ [0-9]+\r\nNATS/1\.0\r\n(?:[0-9A-Za-z-]+: [!-~]+\r\n)*\r\n"
)
"""The part of a message before its data, if no subject and no value of a header has a space or a line end."""
_HEADERS = re.compile(rb"(?:^|\r\n)[ \t]*([!-9;-~]+)[ \t]*:([^\r]*)")

log = structlog.get_logger(__name__)


class BrokerClosed(nats.errors.Error):
    """The connection has ended for good: the server refuses it (credentials withdrawn, a protocol error)."""


Take = Callable[[str, str, bytes], None]
"""Takes a message: its subject, that of its reply (empty if none is wanted), its data."""
TakeWhole = Callable[[Msg], Awaitable[None]]
"""Takes a message with its headers."""


class _Client(Client):
    """nats-py's client without some of its faults, and with a shorter way for messages."""

    def __init__(self) -> None:
        super().__init__()
        self.takers: dict[int, Take] = {}
        self.whole_takers: dict[int, TakeWhole] = {}
        """Both by the ids of their subscriptions."""

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish as nats-py does, which makes eight calls of its own for it, and 30 with a header. What it would
        refuse, write otherwise, or keep until it is connected again, is left to it.
        """
        size_bytes = len(payload)
        line_feeds = 1
        if headers is None:
            head = f"PUB {subject} {reply} {size_bytes}\r\n"
        else:
            lines = "NATS/1.0\r\n"
            for name, value in headers.items():
                lines += f"{name}: {value}\r\n"
            lines_bytes = len(lines) + 2
            head = f"HPUB {subject} {reply} {lines_bytes} {lines_bytes + size_bytes}\r\n{lines}\r\n"
            line_feeds += len(headers) + 2  # a value with a line end of its own would be two headers
        if (
            self._status != Client.CONNECTED
            or size_bytes > self._max_payload
            or not _HEAD.fullmatch(head)
            or head.count("\n") != line_feeds
        ):
            await super().publish(subject, payload, reply, headers)
            return
        command = b"%b%b\r\n" % (head.encode(), payload)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += size_bytes
        self._pending.append(command)
        self._pending_data_size += len(command)
        if 0 < self._max_pending_size < self._pending_data_size:
            await self._flush_pending(force_flush=True)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Call who takes a message at once. Through a subscription's queue and task that costs 18 calls more."""
        take = self.takers.get(sid)
        take_whole = self.whole_takers.get(sid) if take is None else None
        if take is None and take_whole is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            if take is not None:
                take(subject.decode(), reply.decode() if reply else "", data)
            elif take_whole is not None:
                read = await self._process_headers(headers)
                await take_whole(self._build_message(sid, subject, reply, data, read))
        except Exception as error:  # noqa: BLE001 - as a subscription does: it has to go on
            await self._error_cb(error)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self.takers.pop(sid, None)
        self.whole_takers.pop(sid, None)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Read the lines of a header as nats-py does, which looks at every character of a name in Python: for the one
        header of a job that took 50 calls.
        """
        return {name.decode(): value.strip().decode("utf-8", "replace") for name, value in _HEADERS.findall(raw)}

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Send what was published before the PING first, so that its PONG confirms that too.

        The transport then has it: if a server that reads nothing is left, it is not sent to the next one.
        """
        if self.is_connected and self._transport is not None and self._pending:
            self._transport.writelines(self._pending)
            self._pending, self._pending_data_size = [], 0
        await super()._send_ping(future)

    async def _process_pong(self) -> None:
        """Ignore the PONG of a flush that has timed out. nats-py stops reading at such a PONG, and counts as connected
        until its pings are overdue.
        """
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _attempt_reconnect(self) -> None:
        """Drop the old connection first: its close would wait, without end, for a server that reads nothing more."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._attempt_reconnect()

    def _connect_command(self) -> bytes:
        """Refuse to send credentials in clear to a server that was to be spoken to over TLS."""
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise nats.errors.Error("nats: the URL says tls, and the server does not")
        return super()._connect_command()


class Broker:
    """A connection that reconnects for ever, with callbacks for each time that it has."""

    def __init__(self) -> None:
        self._client = _Client()
        self.client: Client = self._client
        self._on_reconnect: list[Callable[[], None]] = []
        self._connected_again = asyncio.Event()
        self._closing = False
        self._leaving = False

    async def connect(self, urls: Sequence[str], *, name: str, access: BrokerAccess = ANONYMOUS) -> None:
        """Connect; `name` shows in the server's list of connections.

        Raises:
            TimeoutError: no server answers, or lets this process in, within `FIRST_CONNECT_TIMEOUT_S`.

        """
        servers, options = _without_credentials(urls)
        options |= access.options()
        self.client._public_nkey = access.public_key()  # noqa: SLF001 - `connect` takes it only with its own signer
        try:
            async with asyncio.timeout(FIRST_CONNECT_TIMEOUT_S):
                await self.client.connect(
                    servers=servers,
                    name=name,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    allow_reconnect=True,
                    max_reconnect_attempts=FOREVER,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a float is slept as well
                    ping_interval=PING_INTERVAL_S,
                    max_outstanding_pings=MAX_OUTSTANDING_PINGS,
                    pending_size=PENDING_BYTES_LIMIT,
                    flush_timeout=FLUSH_TIMEOUT_S,
                    error_cb=self._error,
                    disconnected_cb=self._disconnected,
                    reconnected_cb=self._reconnected,
                    **options,
                )
        except TimeoutError:
            reason = self.client.last_error
            raise TimeoutError(f"no server answers within {FIRST_CONNECT_TIMEOUT_S:g} s ({reason})") from None

    async def subscribe(self, subject: str, take: Take) -> Subscription:
        """Have messages taken as they come, by what waits for nothing. Their headers are not read.

        Raises:
            nats.errors.Error: the connection has ended for good.

        """

        async def take_early(message: Msg) -> None:  # one that came before its taker was known
            take(message.subject, message.reply, message.data)

        subscription = await self.client.subscribe(subject, cb=take_early)
        self._client.takers[subscription._id] = take  # noqa: SLF001 - as above
        return subscription

    async def subscribe_whole(self, subject: str, take: TakeWhole) -> Subscription:
        """Have messages taken as they come, with their headers, by what hardly ever waits, and never for a reply:
        nothing else is read from the connection meanwhile. Raises as `subscribe`.
        """
        subscription = await self.client.subscribe(subject, cb=take)  # through it comes what is here before its taker
        self._client.whole_takers[subscription._id] = take  # noqa: SLF001 - as above
        return subscription

    async def leave_server(self) -> None:
        """Connect again, to any server of the cluster: it may be the same one."""
        self._leaving = True
        await self.client.force_reconnect()

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time the connection is back."""
        self._on_reconnect.append(callback)

    @property
    def is_connected(self) -> bool:
        """True if the server can be reached at this moment."""
        return bool(self.client.is_connected)

    async def wait_until_connected(self, timeout_s: float) -> None:
        """Return once the server can be reached.

        Raises:
            TimeoutError: it cannot, after so long.

        """
        async with asyncio.timeout(timeout_s):
            await self._connected_again.wait()

    @property
    def is_clustered(self) -> bool:
        """True if the server is one of a cluster."""
        return bool(self._server_info.get("cluster"))

    @property
    def server_id(self) -> str | None:
        """The id of the server that this is, or was last, connected to."""
        return self._server_info.get("server_id")

    @property
    def knows_other_servers(self) -> bool:
        """True if there is a server to which this may connect instead."""
        return self.is_clustered and len(self.client.servers) > 1

    @property
    def cluster_servers(self) -> int:
        """The servers of the cluster that were up when this connection was made, as far as the server lists them."""
        return len(self._server_info.get("connect_urls") or ()) if self.is_clustered else 1

    @property
    def _server_info(self) -> dict[str, Any]:
        return self.client._server_info  # noqa: SLF001 - the INFO message has no public face

    @property
    def is_closed(self) -> bool:
        """True if the connection has ended for good; only another process, or another `Broker`, gets a new one."""
        return bool(self.client.is_closed)

    async def close(self) -> None:
        """Send what is buffered, then close."""
        self._closing = True
        with suppress(*BrokerErrors):  # a server that is away is not waited for
            if self.client.is_connected:
                await self.client.flush(timeout=FLUSH_TIMEOUT_S)
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self.client.close()
            except RuntimeError as error:  # uvloop's, of a connection that the server has closed with something to send
                if self.client.is_connected:
                    raise
                log.warning("broker_closed_unsent", message=str(error))

    async def _error(self, error: Exception) -> None:
        log.warning("broker_error", error=type(error).__name__, message=str(error))

    async def _disconnected(self) -> None:
        self._connected_again.clear()
        if not (self._closing or self._leaving):
            log.warning("broker_disconnected")

    async def _reconnected(self) -> None:
        self._leaving = False
        log.info("broker_reconnected")
        self._connected_again.set()
        for callback in self._on_reconnect:
            callback()


def _without_credentials(urls: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The URLs, and the client's options with the credentials that all of them have; they stay in URLs that differ.

    A server that the cluster makes known comes without credentials, and would refuse who has them in URLs only.
    """
    parts = [urlsplit(url) for url in urls]
    users = {(part.username, part.password) for part in parts}
    if len(users) != 1:
        return list(urls), {}
    (user, password) = users.pop()
    servers = [urlunsplit(part._replace(netloc=part.netloc.rpartition("@")[2])) for part in parts]
    if user is None:
        return servers, {}
    return servers, {"token": user} if password is None else {"user": user, "password": password}


BrokerErrors = (nats.errors.Error, OSError, TimeoutError)
"""The exceptions of a call to the broker while it is away."""
