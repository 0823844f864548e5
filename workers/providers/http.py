"""One call of a vendor's endpoint: bytes in, bytes out, every failure as an error of ours. Shared by the adapters.

The adapter gives the address and the headers, those that the vendor's SDK would send; the call goes over an aiohttp
session. `docs/decisions/0004-calls-over-aiohttp.md` says why the SDKs themselves are not used.
"""

import importlib.metadata
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from domain.dialects.errors import UnreadableResponse
from domain.dialects.sse import SseEvent
from domain.errors import (
    InvalidRequest,
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    TimeLimit,
)
from domain.models import retirement_notice
from domain.provider_limits import exhausted_s, read_limits
from domain.provider_refusals import recognise
from domain.routing import BUILT_IN
from domain.sanitize import sanitize_message
from infra.offload import offload
from infra.outbound import AddressRefused, ConnectorLimits, check_url, open_session
from workers.credential_filter import CredentialFilter
from workers.loop_turns import LoopTurns
from workers.providers.answer_body import (
    FIRST_BYTE,
    TIMED_OUT,
    TimeIsOver,
    events_of,
    moment_after,
    read_answer,
    within,
)
from workers.providers.provider import Credential, ProviderCall
from workers.providers.retry_after import retry_after_s

KEEP_ALIVE_S = 30.0
"""A kept connection is given up before the vendors would close it, or it might be used just then."""
CONNECT_TIMEOUT_S = 10.0
MAX_CREDENTIALS = 1_024
MAX_REFUSAL_BYTES = 1024 * 1024
"""No more of a refusal is read."""
MAX_OWN_BODY_BYTES = 64 * 1024
COMMON_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": f"ai-gateway/{importlib.metadata.version('ai-gateway')}",
}


class Endpoint(msgspec.Struct, frozen=True):
    """The address of a vendor, and the headers of each request, the credential included."""

    base_url: str
    headers: dict[str, str]

    def __repr__(self) -> str:
        """Shows no credential."""
        return f"Endpoint(base_url={self.base_url!r})"


_OF_THE_INSTALLATIONS_KEY = frozenset({"openai-organization", "openai-project", "authorization", "x-api-key"})
"""What the operator's environment says in these headers goes with the installation's key, not with a project's."""
_NO_SECRETS = frozenset({"accept", "content-type", "user-agent", "openai-organization", "openai-project"})
_NO_SECRETS_BEGIN = ("anthropic-",)


def endpoint(
    credential: Credential, base_url: str, *, own_headers: Mapping[str, str], operators_headers: Mapping[str, str]
) -> Endpoint:
    """Make the endpoint of a credential.

    `own_headers` are the credential's, which do not depend on the environment. `operators_headers` are what the
    operator's environment says: they go to the operator's own addresses only, and take the place of the others only
    beside the installation's key.
    """
    if credential.is_callers:
        headers = dict(own_headers)
    elif credential.is_own:
        others = {
            name: value for name, value in operators_headers.items() if name.lower() not in _OF_THE_INSTALLATIONS_KEY
        }
        headers = _merged(others, own_headers)
    else:
        headers = _merged(own_headers, operators_headers)
    return Endpoint(base_url.rstrip("/"), headers)


def custom_headers(variable: str) -> dict[str, str]:
    """Read the headers of an environment variable, one `name: value` a line, as the vendors' SDKs do."""
    lines = (line.partition(":") for line in os.environ.get(variable, "").split("\n"))
    return {name.strip(): value.strip() for name, colon, value in lines if colon}


def _merged(first: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Return all headers. Those of `then` take the place of those with the same name, however it is written."""
    replaced = {name.lower() for name in then}
    return {name: value for name, value in first.items() if name.lower() not in replaced} | dict(then)


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """What may be secret in a request's headers: their values, without a scheme such as `Bearer`."""
    return [
        value.rpartition(" ")[2]
        for name, value in headers.items()
        if name.lower() not in _NO_SECRETS and not name.lower().startswith(_NO_SECRETS_BEGIN)
    ]


class Sessions:
    """The connections of one worker to providers: a session for addresses that the operator vouches for, and one for
    addresses that callers gave, which leads to public machines only.
    """

    def __init__(self, *, allow_loopback: bool, max_connections: int) -> None:
        """Open the sessions, for the event loop that runs. They connect when they are used.

        Each has at most `max_connections` in use; further calls wait for one.
        """
        self._allow_loopback = allow_loopback
        limits: ConnectorLimits = {"limit": max_connections, "keepalive_timeout": KEEP_ALIVE_S}
        self.turns = LoopTurns()
        """Of the streams that come over them."""
        self.operators = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(**limits), cookie_jar=aiohttp.DummyCookieJar()
        )
        self.callers = open_session(allow_loopback=allow_loopback, **limits)

    def check(self, url: str) -> None:
        """Refuse an address that callers gave and that may not be called, as settings are today.

        Raises:
            InvalidRequest: why.

        """
        check_url(url, field="baseUrl", allow_loopback=self._allow_loopback)

    async def close(self) -> None:
        """Close every connection."""
        await self.operators.close()
        await self.callers.close()


class HttpProvider:
    """Calls a vendor's endpoints over HTTP."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        make_endpoint: Callable[[Credential], Endpoint],
    ) -> None:
        self._sessions = sessions
        self._make_endpoint = make_endpoint
        self._endpoint = lru_cache(MAX_CREDENTIALS)(self._checked_endpoint)

    async def send(self, content: bytes, call: ProviderCall) -> bytes:
        """See `Provider`."""
        provider = call.identity.provider
        first_byte_at = moment_after(call.first_byte_s) if call.first_byte_s is not None else None
        try:
            response, credential_filter = await self._open(content, call, first_byte_at)
            try:
                body = await read_answer(response, call, first_byte_at=first_byte_at)
            finally:
                if not response.closed:  # its last byte releases it: `async with` costs 20 calls more for nothing
                    response.release()
                    await response.wait_for_close()
        except _TRANSPORT_ERRORS as error:
            raise _failure(error, provider) from None
        try:
            return await offload(len(body), credential_filter.whole, body)
        except UnreadableResponse as error:
            raise ProviderLost(f"{provider} sent an answer that cannot be read: {error}", provider=provider) from None

    @asynccontextmanager
    async def stream(self, content: bytes, call: ProviderCall) -> AsyncIterator[AsyncIterator[list[SseEvent]]]:
        """See `Provider`."""
        first_byte_at = moment_after(call.first_byte_s) if call.first_byte_s is not None else None
        try:
            response, credential_filter = await self._open(content, call, first_byte_at)
            async with (
                response,
                aclosing(
                    events_of(response, call, first_byte_at, credential_filter.stream(), self._sessions.turns)
                ) as events,
            ):
                yield events
        except _TRANSPORT_ERRORS as error:
            raise _failure(error, call.identity.provider) from None

    async def _open(
        self, content: bytes, call: ProviderCall, first_byte_at: float | None
    ) -> tuple[aiohttp.ClientResponse, CredentialFilter]:
        """Send bytes; gives a response with status 200, which the caller releases, and what hides the credential in it.

        Raises:
            ProviderError: it has another status, or there is no credential.
            aiohttp.ClientError, TimeoutError: see `_failure`.

        """
        provider = call.identity.provider
        if call.credential is None:
            raise ProviderCredentials(
                f"there is no key for {provider}: give the project one (PATCH /api/v1/projects/me) or the installation "
                "(OPENAI_API_KEY, ANTHROPIC_API_KEY); the model `echo` needs none",
                provider=provider,
            )
        try:
            to, credential_filter = self._endpoint(call.credential)
        except InvalidRequest as error:
            raise ProviderUnavailable(f"{provider} cannot be reached: {error.message}", provider=provider) from None
        timeout = aiohttp.ClientTimeout(total=call.timeout_s, sock_connect=min(CONNECT_TIMEOUT_S, call.timeout_s))
        headers = {**to.headers, **call.headers} if call.headers else to.headers
        session = self._sessions.callers if call.credential.is_callers else self._sessions.operators
        url = to.base_url + call.path + (f"?{call.query}" if call.query else "")
        request = session.request(
            call.method,
            URL(url, encoded=True),
            data=content or None,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        )
        response = await (within(first_byte_at, FIRST_BYTE, request) if first_byte_at is not None else request)
        call.heard(response.headers)
        if response.status != 200:
            async with response:
                body = _without_secrets(credential_filter, await _read_refusal(response))
            raise _refused(response, body, call)
        return response, credential_filter

    def _checked_endpoint(self, credential: Credential) -> tuple[Endpoint, CredentialFilter]:
        """The endpoint of a credential, and what hides the credential in its answers.

        Raises:
            InvalidRequest: see `Sessions.check`.

        """
        if credential.is_callers:
            self._sessions.check(credential.base_url or "")
        to = self._make_endpoint(credential)
        return to, CredentialFilter([credential.api_key, *credential.other_keys, *secrets_in(to.headers)])


async def _read_refusal(response: aiohttp.ClientResponse) -> bytes:
    """The body of a refusal, up to `MAX_REFUSAL_BYTES`."""
    buffer = BytesIO()
    async for part in response.content.iter_any():
        buffer.write(part[: MAX_REFUSAL_BYTES - buffer.tell()])
        if buffer.tell() >= MAX_REFUSAL_BYTES:
            break
    return buffer.getvalue()


def _without_secrets(credential_filter: CredentialFilter, refusal: bytes) -> bytes:
    """The refusal without the secrets. One that cannot be searched is withheld: its status still tells."""
    try:
        return credential_filter.whole(refusal)
    except UnreadableResponse:
        return b""


_TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError)


def _failure(error: aiohttp.ClientError | TimeoutError, provider: str) -> ProviderError:
    """The error of a call that the transport has failed. Raise it `from None`: the transport's holds the request, which
    no trace is to show.
    """
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return _unreachable(provider, error)
        case TimeoutError():
            limit: TimeLimit = error.limit if isinstance(error, TimeIsOver) else "total"
            return ProviderTimeout(TIMED_OUT[limit].format(provider=provider), provider=provider, limit=limit)
        case _:
            return ProviderLost(f"connection error: the connection to {provider} broke", provider=provider)


def _unreachable(provider: str, error: Exception) -> ProviderUnavailable:
    """The error of a connection that was not made, with the reason."""
    match error:
        case aiohttp.ClientConnectorError(os_error=AddressRefused() as refused):
            reason = str(refused)
        case aiohttp.ClientConnectorDNSError():
            reason = "its name is not known"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            reason = "no secure connection was agreed on"
        case aiohttp.ClientConnectorError():
            reason = "it takes no connection"
        case _:
            reason = "it did not take a connection in time"
    return ProviderUnavailable(f"{provider} cannot be reached: {reason}", provider=provider)


_KIND_BY_STATUS: dict[int, type[ProviderError]] = {
    401: ProviderCredentials,
    403: ProviderCredentials,
    408: ProviderTimeout,
    429: ProviderRateLimited,
}
_NOT_FOUND = frozenset({404, 410})


def _with_notice(status: int, body: bytes, call: ProviderCall) -> bytes:
    """The refusal; if it says that there is no such model, with what to ask instead of a retired one."""
    if status not in _NOT_FOUND or len(body) > MAX_OWN_BODY_BYTES:
        return body
    upstream_model, is_built_in = call.identity.upstream_model, call.identity.provider in BUILT_IN
    asked_as = call.identity.model.removeprefix(f"{call.identity.provider}/") if is_built_in else None
    notice = retirement_notice(upstream_model, asked_as)
    if notice is None:
        return body
    try:
        refusal = msgspec.json.decode(body)
        error = refusal["error"]
        if error.get("code") != "model_not_found" and upstream_model not in error["message"]:
            return body
        error["message"] = f"{error['message'].rstrip('. ')}. {notice}"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
        return body
    return msgspec.json.encode(refusal)


def _own_body(body: bytes) -> bytes | None:
    """The refusal as its provider wrote it, if it is a JSON object that is small enough to pass on."""
    try:
        is_object = len(body) <= MAX_OWN_BODY_BYTES and isinstance(msgspec.json.decode(body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        is_object = False
    return body if is_object else None


def _refused(response: aiohttp.ClientResponse, body: bytes, call: ProviderCall) -> ProviderError:
    """The error of a response with another status than 200. `body` is its body, without secrets."""
    body = _with_notice(response.status, body, call)
    error = _refusal(response.status, response.headers, body, call.identity.provider)
    if call.keeps_error_body and isinstance(error, ProviderRejected):
        error.own_body = _own_body(body)
    return error


def _refusal(status: int, headers: Mapping[str, str], body: bytes, provider: str) -> ProviderError:
    said = _said(body)
    refusal = recognise(said.message, said.code, status)
    kind: type[ProviderError] = ProviderRejected if 400 <= status < 500 or refusal is not None else ProviderUnavailable
    if refusal is None:
        kind = _KIND_BY_STATUS.get(status, kind)
    if kind is ProviderCredentials:  # providers repeat the key in this message
        message = f"{provider} refuses the key that it was called with"
    elif status < 400:
        message = f"{provider} answered with status {status}: redirections are not followed"
    else:
        message = said.message or f"{provider} answered with status {status}: {body.decode(errors='replace')}"
    now = datetime.now(UTC)
    wait_s = retry_after_s(headers, now)
    if wait_s is None and kind is ProviderRateLimited:
        wait_s = exhausted_s(read_limits(headers, now))
    error = kind(sanitize_message(message), provider=provider, status=status, retry_after_s=wait_s)
    error.refusal = refusal
    return error


class _Said(Struct, frozen=True):
    """The provider's own words; empty: it has none in a shape that is known."""

    message: str = ""
    code: str = ""


def _said(body: bytes) -> _Said:
    """Both vendors write `{"error": {"message", "type", "code"?}}`; some of OpenAI's kind leave `error` out."""
    try:
        found = msgspec.json.decode(body)
        error = found.get("error", found)
        if not isinstance(error, dict):
            return _Said(message=str(error))
        code = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
        return _Said(message=str(error.get("message") or ""), code=str(code or ""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        return _Said()
