"""One SDK call: raw bytes in, raw bytes out, every failure as an error of ours. Shared by the vendors' adapters.

The SDKs build a tree of objects for each answer; we take the response as it came (`cast_to=httpx2.Response`) and
decode what we need. Retries are ours, so the SDKs' are switched off.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiohttp
import httpx2
import msgspec

from domain.chat import ChatRequest
from domain.dialects.answered import Answered, UnreadableAnswer
from domain.embeddings import EmbeddingsRequest
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
from workers.providers.provider import Credential, ProviderCall

CONNECT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 1_024
MAX_KEEPALIVE_CONNECTIONS = 512
KEEPALIVE_EXPIRY_S = 30.0
MAX_CLIENTS = 256
"""Credentials in use at a time; the longest unused client is closed beyond that."""
MAX_MESSAGE_CHARS = 2_000
MAX_CAUSES = 10

LIMITS = httpx2.Limits(
    max_connections=MAX_CONNECTIONS,
    max_keepalive_connections=MAX_KEEPALIVE_CONNECTIONS,
    keepalive_expiry=KEEPALIVE_EXPIRY_S,
)

_encode = msgspec.json.Encoder().encode


class SdkClient(Protocol):
    """The part of `AsyncOpenAI` and `AsyncAnthropic` that is used."""

    async def post(self, path: str, *, cast_to: Any, content: bytes, options: Any) -> Any:
        """Send a request."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class SdkErrors(msgspec.Struct, frozen=True, kw_only=True):
    """The error classes of an SDK; both are made by the same generator."""

    status: type[Exception]
    timeout: type[Exception]
    connection: type[Exception]


class Clients:
    """One SDK client for each credential in use."""

    def __init__(self, make: Callable[[Credential], SdkClient]) -> None:
        self._make = make
        self._clients: OrderedDict[Credential, SdkClient] = OrderedDict()

    async def get(self, credential: Credential) -> SdkClient:
        """The credential's client."""
        client = self._clients.get(credential)
        if client is None:
            client = self._clients[credential] = self._make(credential)
            if len(self._clients) > MAX_CLIENTS:
                _, oldest = self._clients.popitem(last=False)
                await oldest.close()
        else:
            self._clients.move_to_end(credential)
        return client

    async def close(self) -> None:
        """Close them all."""
        for client in self._clients.values():
            await client.close()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a vendor: where it is asked, and how its dialect writes and reads it."""

    path: str
    write: Callable[[Any, str], dict[str, Any]]
    read: Callable[[bytes, Any, str], Answered]


class SdkProvider:
    """Calls a vendor's endpoints through its SDK."""

    def __init__(
        self,
        name: str,
        *,
        make_client: Callable[[Credential], SdkClient],
        errors: SdkErrors,
        endpoints: Mapping[Operation, Endpoint],
    ) -> None:
        self._name = name
        self._clients = Clients(make_client)
        self._errors = errors
        self._endpoints = endpoints

    async def ask(self, request: ChatRequest | EmbeddingsRequest, call: ProviderCall) -> Answered:
        """Send the request in the vendor's dialect and read the answer."""
        if call.credential is None:
            raise ProviderCredentials(f"there is no key for {self._name}", provider=self._name)
        endpoint = self._endpoints[call.operation]
        wire = endpoint.write(request, call.upstream_model)
        body = await self._post(endpoint.path, _encode(wire), call.credential, call.timeout_s)
        try:
            return endpoint.read(body, request, self._name)
        except UnreadableAnswer as error:
            message = f"{self._name} sent an answer that cannot be read: {error}"
            raise ProviderLost(message, provider=self._name) from error

    async def close(self) -> None:
        """Close every client."""
        await self._clients.close()

    async def _post(self, path: str, content: bytes, credential: Credential, timeout_s: float) -> bytes:
        """Send and receive bytes; `from None` keeps the SDK's errors, which hold the request, out of tracebacks."""
        name = self._name
        client = await self._clients.get(credential)
        options = {
            "headers": {"Content-Type": "application/json"},
            "timeout": httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            "max_retries": 0,
        }
        try:
            response = await client.post(path, cast_to=httpx2.Response, content=content, options=options)
        except self._errors.status as error:
            raise _refusal(error.response, name, credential.api_key) from None  # type: ignore[attr-defined]  # it has one
        except (self._errors.timeout, self._errors.connection) as error:
            raise _broken(error, name) from None
        return bytes(response.content)


_KIND_BY_STATUS: dict[int, type[ProviderError]] = {
    401: ProviderCredentials,
    403: ProviderCredentials,
    408: ProviderTimeout,
    429: ProviderRateLimited,
}


def _broken(error: BaseException, provider: str) -> ProviderError:
    """What a call without an answer means. Only a connection that was never made is known to have cost nothing.

    The SDKs' transport calls a connection that the server dropped half-way a connect timeout, so aiohttp's own errors
    below theirs are asked.
    """
    causes: list[BaseException] = []
    while error.__cause__ is not None and len(causes) < MAX_CAUSES:
        error = error.__cause__
        causes.append(error)
    if any(isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) for cause in causes):
        return ProviderUnavailable(f"{provider} cannot be reached", provider=provider)
    if any(isinstance(cause, aiohttp.ServerTimeoutError | TimeoutError) for cause in causes):
        return ProviderTimeout(f"{provider} did not answer in time", provider=provider)
    return ProviderLost(f"the connection to {provider} broke", provider=provider)


def _refusal(response: httpx2.Response, provider: str, secret: str) -> ProviderError:
    status = response.status_code
    kind = _KIND_BY_STATUS.get(status) or (ProviderUnavailable if status >= 500 else ProviderRejected)
    if kind is ProviderCredentials:  # providers repeat the key in this message
        message = f"{provider} refuses the gateway's credential"
    else:
        message = _message(response.content).replace(secret, "…")
    return kind(message, provider=provider, status=status, retry_after_s=_retry_after_s(response.headers))


def _message(body: bytes) -> str:
    """Both vendors: `{"error": {"message"}}`; anything else is shown as it is, cut."""
    try:
        message = msgspec.json.decode(body)["error"]["message"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        message = body.decode(errors="replace")
    return str(message)[:MAX_MESSAGE_CHARS].replace("\x00", "")


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * factor
        except (KeyError, ValueError):  # absent, or an HTTP date, which neither vendor sends
            continue
    return None
