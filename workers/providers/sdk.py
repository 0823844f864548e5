"""One call of a vendor's endpoint: bytes in, bytes out, every failure as an error of ours. Shared by the adapters.

The vendor's SDK says where it is and with which headers it wants to be spoken to; the call itself goes over one aiohttp
session. `docs/decisions/0004-calls-over-aiohttp.md` says why: the SDKs' own calls cost several times as much, and they
report a connection that was lost half-way, which may have been charged, as one that was never made.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from domain.dialects.answered import Answered, UnreadableAnswer
from domain.errors import (
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.events import Operation
from domain.sse import SseEvent, SseParser
from workers.providers.provider import Credential, ProviderCall, Question

CONNECT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 1_024
KEEPALIVE_S = 30.0
"""Below the vendors' own, so that a kept connection is not one that they have just closed."""
MAX_CREDENTIALS = 1_024
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_MESSAGE_CHARS = 2_000

_encode = msgspec.json.Encoder().encode


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a vendor: where it is asked, and how its dialect writes and reads it."""

    path: str
    meter: Callable[[bytes], Answered]
    """Reads the answer to a request in the vendor's own dialect."""
    write: Callable[[Any, str], dict[str, Any]] | None = None
    """None: this is asked in the vendor's own dialect only."""
    read: Callable[[bytes, Any, str], Answered] | None = None
    streamed: dict[str, Any] = {}
    """What is added to a canonical request whose answer is to be streamed."""


class Target(msgspec.Struct, frozen=True):
    """Where a vendor is, and what it wants to be told with each request, the credential included."""

    base_url: str
    headers: dict[str, str]

    def __repr__(self) -> str:
        """Shows no credential."""
        return f"Target(base_url={self.base_url!r})"


def target(base_url: object, headers: Mapping[str, Any]) -> Target:
    """Take a vendor's address and headers from its SDK's client; what that marks as left out is left out."""
    return Target(str(base_url).rstrip("/"), {name: value for name, value in headers.items() if isinstance(value, str)})


class SdkProvider:
    """Calls a vendor's endpoints as its SDK would."""

    def __init__(
        self, name: str, *, make_target: Callable[[Credential], Target], endpoints: Mapping[Operation, Endpoint]
    ) -> None:
        self._name = name
        self._make_target = make_target
        self._endpoints = endpoints
        self._targets: OrderedDict[Credential, Target] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: Question, call: ProviderCall) -> Answered:
        """Send the request in the vendor's dialect and read the answer."""
        endpoint = self._endpoints[call.operation]
        content = request if isinstance(request, bytes) else _written(endpoint, request, call.upstream_model)
        async with self._opened(endpoint.path, content, call) as response:
            body = await self._read(response)
        try:
            if isinstance(request, bytes):
                return endpoint.meter(body)
            assert endpoint.read is not None, "what is written can be read"
            return endpoint.read(body, request, self._name)
        except UnreadableAnswer as error:
            message = f"{self._name} sent an answer that cannot be read: {error}"
            raise ProviderLost(message, provider=self._name) from error

    @asynccontextmanager
    async def stream(self, request: Question, call: ProviderCall) -> AsyncIterator[AsyncIterator[list[SseEvent]]]:
        """Send the request and give the events of the answer."""
        endpoint = self._endpoints[call.operation]
        content = (
            request
            if isinstance(request, bytes)
            else _written(endpoint, request, call.upstream_model, endpoint.streamed)
        )
        async with self._opened(endpoint.path, content, call) as response, aclosing(self._events(response)) as events:
            yield events

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _opened(self, path: str, content: bytes, call: ProviderCall) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send bytes; the answer, whose status is 200. `from None` keeps the transport's errors, which hold the
        request, out of traces.
        """
        if call.credential is None:
            raise ProviderCredentials(f"there is no key for {self._name}", provider=self._name)
        to = self._target(call.credential)
        timeout = aiohttp.ClientTimeout(total=call.timeout_s, sock_connect=min(CONNECT_TIMEOUT_S, call.timeout_s))
        headers = {**to.headers, **call.headers} if call.headers else to.headers
        try:
            async with self._open_session().post(
                to.base_url + path, data=content, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    body = await self._read(response)
                    raise _refusal(response.status, response.headers, body, self._name, call.credential.api_key)
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise ProviderUnavailable(f"{self._name} cannot be reached", provider=self._name) from None
        except (TimeoutError, aiohttp.ServerTimeoutError):
            raise ProviderTimeout(f"{self._name} did not answer in time", provider=self._name) from None
        except aiohttp.ClientError:
            raise ProviderLost(f"the connection to {self._name} broke", provider=self._name) from None

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[list[SseEvent], None]:
        parser = SseParser()
        size = 0
        async for data in response.content.iter_any():
            size += len(data)
            if size > MAX_ANSWER_BYTES:
                raise ProviderLost(f"{self._name} sent more than {MAX_ANSWER_BYTES} bytes", provider=self._name)
            events = parser.feed(data)
            if events:
                yield events
        if parser.rest():
            yield parser.feed(b"\n\n")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                message = f"{self._name} sent more than {MAX_ANSWER_BYTES} bytes"
                raise ProviderLost(message, provider=self._name)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _target(self, credential: Credential) -> Target:
        known = self._targets.get(credential)
        if known is None:
            known = self._targets[credential] = self._make_target(credential)
            if len(self._targets) > MAX_CREDENTIALS:
                self._targets.popitem(last=False)
        return known

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def _written(endpoint: Endpoint, request: Any, upstream_model: str, more: Mapping[str, Any] = {}) -> bytes:
    assert endpoint.write is not None, "the dialect has this operation"
    return _encode({**endpoint.write(request, upstream_model), **more})


_KIND_BY_STATUS: dict[int, type[ProviderError]] = {
    401: ProviderCredentials,
    403: ProviderCredentials,
    408: ProviderTimeout,
    429: ProviderRateLimited,
}


def _refusal(status: int, headers: Mapping[str, str], body: bytes, provider: str, secret: str) -> ProviderError:
    kind = _KIND_BY_STATUS.get(status) or (ProviderUnavailable if status >= 500 else ProviderRejected)
    if kind is ProviderCredentials:  # providers repeat the key in this message
        message = f"{provider} refuses the gateway's credential"
    else:
        message = _message(body).replace(secret, "…")
    return kind(message, provider=provider, status=status, retry_after_s=_retry_after_s(headers))


def _message(body: bytes) -> str:
    """Both vendors: `{"error": {"message"}}`; anything else is shown as it is, cut."""
    try:
        message = msgspec.json.decode(body)["error"]["message"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        message = body.decode(errors="replace")
    return str(message)[:MAX_MESSAGE_CHARS].replace("\x00", "")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * factor
        except (KeyError, ValueError):  # absent, or an HTTP date, which neither vendor sends
            continue
    return None
