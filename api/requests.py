"""Reads requests for every route: the caller, the headers, the body and the query, as typed values or a clear refusal.

Bodies are decoded by msgspec straight from the bytes, strictly: `"3"` is no number. Those that came packed are unpacked
here, those that are no UTF-8 refused.
"""

import asyncio
import codecs
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.connection.base import empty_receive, empty_send
from litestar.datastructures import Headers, MultiDict
from litestar.exceptions import HTTPException, InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import Empty, Receive, Scope, Send
from msgspec import UNSET, Meta, Struct, UnsetType
from multidict import CIMultiDict, CIMultiDictProxy

from api.authentication import KEY_HEADERS, Caller
from api.content_encoding import encodings_of, taken, unpacked
from api.large_requests import LARGE_BYTES
from api.request_context import CachePolicy
from api.request_facts import facts_of
from api.request_lifetime import BYTES_SCOPE, REQUEST_ID_SCOPE
from api.services import Services
from domain.decoding import invalid
from domain.errors import InvalidRequest, NotFound
from domain.names import NAME_PATTERN, Name
from domain.routes import MAX_FALLBACKS
from infra.byte_budget import BytesInHand

HttpRequest = Request[Any, Any, Any]
Shape = TypeVar("Shape")

MIN_CACHE_TTL_S = 60
MAX_CACHE_TTL_S = 86_400
DEFAULT_CACHE_TTL_S = 3_600
MAX_METADATA_MEMBERS = 32
MAX_METADATA_NAME_CHARS = 64
MAX_METADATA_BYTES = 8_192
MAX_METADATA_DEPTH = 16
"""Metadata is decoded again in many places; each must accept at least this depth."""

CacheTtl = Annotated[int, Meta(ge=MIN_CACHE_TTL_S, le=MAX_CACHE_TTL_S)]
CacheMode = Literal["on", "off", "refresh"]
MetadataName = Annotated[str, Meta(min_length=1, max_length=MAX_METADATA_NAME_CHARS, pattern=NAME_PATTERN)]
Fallbacks = Annotated[list[Name], Meta(max_length=MAX_FALLBACKS)]
"""The models, or routes, that are tried next, in their order."""
Metadata = Annotated[dict[MetadataName, Any], Meta(max_length=MAX_METADATA_MEMBERS)]

UNPACK_STEP_BYTES = 1024 * 1024
"""A thread unpacks so much of a large body at a time; between the steps it is counted."""

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_NUL = "\x00"
"""PostgreSQL's text cannot hold it."""
_metadata_decoder = msgspec.json.Decoder(Metadata)
_encode = msgspec.json.Encoder().encode
_ENCODED_NUL = re.compile(rb"\\u0000")


class _CacheHeaders(Struct, frozen=True, rename={"mode": "x-gateway-cache", "ttl_s": "x-gateway-cache-ttl"}):
    """The headers that set how a request uses the cache, on every surface."""

    mode: CacheMode | UnsetType = UNSET
    ttl_s: CacheTtl | UnsetType = UNSET


class _TranslationHeader(Struct, frozen=True, rename={"mode": "x-gateway-translation"}):
    """The header that sets what becomes of fields which a translation would leave out."""

    mode: Literal["lenient", "strict"]


class _FallbacksHeader(Struct, frozen=True, rename={"names": "x-gateway-fallbacks"}):
    """The header that names the models to be tried next."""

    names: Fallbacks


class _Names(dict[bytes, str]):
    """The names of headers as texts: those that most requests have are there, others are decoded."""

    def __missing__(self, name: bytes) -> str:
        return name.decode("latin-1")


_NAMES = _Names(
    (name.encode(), name)
    for name in (
        *("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"),
        *KEY_HEADERS,
        *("x-gateway-cache", "x-gateway-cache-ttl", "x-gateway-metadata", "idempotency-key"),
        *(f"x-stainless-{what}" for what in ("arch", "async", "lang", "os", "package-version", "read-timeout")),
        *(f"x-stainless-{what}" for what in ("retry-count", "runtime", "runtime-version")),
    )
)


class _Headers(Headers):
    """Headers as they came. Litestar's look at the abstract classes of what they are given: half of what they cost."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        pairs = [(_NAMES[name], value.decode("latin-1")) for name, value in headers]
        CIMultiDictProxy.__init__(self, CIMultiDict(pairs))
        self._header_list = None


class CountedRequest(Request[Any, Any, Any]):
    """A request whose body counts against the process's budget, as it came and as it is unpacked."""

    headers = Headers()
    """The headers. Litestar has a property here, which looks for them each time."""

    def __init__(self, scope: Scope, receive: Receive = empty_receive, send: Send = empty_send) -> None:
        super().__init__(scope, receive, send)
        state = self._connection_state
        if state.headers is Empty:
            state.headers = _Headers(scope["headers"])
        self.headers = state.headers

    @property
    def max_body_bytes(self) -> int:
        """The longest body that the call takes, as it comes and as it is unpacked."""
        handler: Any = self.scope["route_handler"]
        return handler.resolve_request_max_body_size() or services_of(self).settings.max_body_bytes

    @classmethod
    def of_job(cls, scope: Scope, receive: Receive, body: bytes) -> "CountedRequest":
        """Make the request of a job, whose body is there and counted, and came over no connection."""
        request = cls(scope, receive)
        request._connection_state.body = body
        return request

    async def body(self) -> bytes:
        """The body, unpacked and in UTF-8.

        Raises:
            UnsupportedEncoding: its `Content-Encoding` is not read here; nothing was read.
            BodyTooLarge: it is too large when it is unpacked.
            InvalidRequest: it is not what its `Content-Encoding` says, or no UTF-8.
            Overloaded, HTTPException: as `stream`.

        """
        read = self._connection_state.body
        if read is not Empty:
            return read
        headers = self.headers
        encodings = encodings_of(headers.getall("content-encoding")) if "content-encoding" in headers else ()
        body = await self._read()
        if encodings and body:
            body = await self._unpacked(body, encodings)
        self._body = self._connection_state.body = _in_utf8(body)
        return self._body

    async def _read(self) -> bytes:
        """The body as it came. Raises as `stream`.

        Litestar joins what an asynchronous generator yields, which takes longer for a body of one message, as most are.
        """
        announced, limit = self.content_length, self.max_body_bytes
        if announced is None or announced > limit:
            return await super().body()
        bytes_in_hand(self).take(announced)
        pieces: list[bytes] = []
        left, more_body = limit, True
        while more_body:
            message = await self.receive()
            if message["type"] != "http.request":
                raise InternalServerException("client disconnected prematurely")
            more_body = message.get("more_body", False)
            pieces.append(message["body"])
            left -= len(pieces[-1])
            if left < 0:
                raise RequestEntityTooLarge
        return b"".join(pieces)

    async def _unpacked(self, packed: bytes, encodings: tuple[str, ...]) -> bytes:
        """Unpack a body: the start of a small one at once, the rest in a thread, in the turn of its project."""
        services, in_hand = services_of(self), bytes_in_hand(self)
        pieces = unpacked(packed, encodings, self.max_body_bytes)
        is_small = len(packed) < LARGE_BYTES and len(encodings) == 1  # what comes out of the first may be large
        parts = [taken(pieces, LARGE_BYTES) if is_small else b""]
        in_hand.take(len(parts[0]))
        if not is_small or len(parts[0]) >= LARGE_BYTES:
            async with services.large_requests.turn(in_hand.owner):
                while part := await asyncio.to_thread(taken, pieces, UNPACK_STEP_BYTES):
                    in_hand.take(len(part))
                    parts.append(part)
        in_hand.release(len(packed))
        return b"".join(parts)

    def stream(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces; counted before it is read if its length is announced, else as it comes.

        Raises:
            Overloaded: the process, or the caller's project, has too many bytes in hand. The rest is not read.
            HTTPException: 413, the body is above the limit.

        """
        announced = self.content_length
        if announced is None:
            return self._count_pieces()
        if announced <= self.max_body_bytes:
            bytes_in_hand(self).take(announced)
        return super().stream()

    async def _count_pieces(self) -> AsyncGenerator[bytes, None]:
        in_hand = bytes_in_hand(self)
        async for piece in super().stream():
            in_hand.take(len(piece))
            yield piece


def _in_utf8(body: bytes) -> bytes:
    """JSON without the mark that some editors and .NET write in front.

    Raises:
        InvalidRequest: it is UTF-16 or UTF-32, by its mark or by the zeros among its first characters.

    """
    if not body.startswith(_MARKS) and b"\x00" not in body[:4]:
        return body
    if body.startswith(codecs.BOM_UTF8):
        return body[len(codecs.BOM_UTF8) :]
    raise InvalidRequest("the body is not UTF-8, which JSON has to be (RFC 8259): it looks like UTF-16 or UTF-32")


def services_of(request: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """The process's parts."""
    services = request.app.state.services
    assert isinstance(services, Services), "put there by the composition root"
    return services


def request_id_of(scope: Any) -> str:
    """The request's id, made when it came in."""
    return str(scope[REQUEST_ID_SCOPE])


async def caller_of(request: HttpRequest) -> Caller:
    """Return the caller, and count the request's bytes for its project. Raises as `Authenticator.authenticate`."""
    caller = await services_of(request).authenticator.authenticate(request.headers)
    facts_of(request.scope).key_id = caller.key_id
    count_bytes(request, caller.project_id)
    return caller


def http_message(request: HttpRequest, error: HTTPException) -> str:
    """Return the error text for a refusal by Litestar."""
    match error.status_code:
        case 404:
            called = request.scope["raw_path"].decode("latin-1")
            return (
                f"there is no {request.method} {called} here: the base URL for OpenAI's clients ends in /v1, for "
                "Anthropic's in the port; docs/how-to/connect-a-client.md lists the calls, /schema the native API"
            )
        case 413:
            assert isinstance(request, CountedRequest), "the application's request class"
            limit, most = request.max_body_bytes, services_of(request).settings.max_body_bytes
            return f"the body may have {limit} bytes" + (" (GATEWAY_MAX_BODY_BYTES)" if limit == most else "")
        case _:
            return error.detail


def count_bytes(request: HttpRequest, project_id: str) -> None:
    """Begin to count the bytes that the request has in memory, once for each request."""
    if BYTES_SCOPE not in request.scope:
        _count_bytes(request, services_of(request), project_id)


def _count_bytes(request: HttpRequest, services: Services, project_id: str) -> None:
    in_hand = BytesInHand(services.byte_budget, project_id)
    request.scope[BYTES_SCOPE] = in_hand  # type: ignore[literal-required]  # ours, as the id


def bytes_in_hand(request: HttpRequest) -> BytesInHand:
    """Return the count of the bytes that a request has in memory. Call after `count_bytes`."""
    in_hand = request.scope[BYTES_SCOPE]  # type: ignore[literal-required]
    assert isinstance(in_hand, BytesInHand), "put there above"
    return in_hand


async def caller_and_body(request: HttpRequest, services: Services) -> tuple[Caller, bytes]:
    """Return the caller and the body. The key is checked before the body is read, and again after that.

    Raises:
        Unauthorized, Unavailable: as `Authenticator.authenticate`.
        RateLimited: the key is over its rate limit; the body was not read.
        Overloaded: as `CountedRequest.stream`.

    """
    known = request.scope.get("user")  # of a job's request: nobody else's has one before a guard
    caller = known if isinstance(known, Caller) else await services.authenticator.authenticate(request.headers)
    facts_of(request.scope).key_id = caller.key_id
    if BYTES_SCOPE not in request.scope:
        _count_bytes(request, services, caller.project_id)
    services.rate_refusals.check(caller)
    body = await request.body()
    return await services.authenticator.caller_with(caller.secret_hash), body


def query_of(request: HttpRequest, shape: type[Shape]) -> Shape:
    """The query's parameters as a struct; each may come once.

    Raises:
        InvalidRequest: names the parameter and what is wrong with it.

    """
    return convert(single_values(request.query_params), shape)


def single_values(query: MultiDict[Any]) -> dict[str, str]:
    """The query's parameters.

    Raises:
        InvalidRequest: one is given twice, or has the character U+0000.

    """
    values: dict[str, str] = {}
    for name, value in query.multi_items():
        if name in values:
            raise InvalidRequest(f"`{name}` may be given once", field=name)
        if _NUL in value:
            raise InvalidRequest(f"`{name}` may not contain the character U+0000", field=name)
        values[name] = value
    return values


def convert(values: Mapping[str, Any], shape: type[Shape]) -> Shape:
    """Texts as typed values.

    Raises:
        InvalidRequest: names the value and what is wrong with it.

    """
    try:
        return msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error, shape) from None


def cache_policy(request: HttpRequest, *, mode: CacheMode, ttl_s: int | None = None) -> CachePolicy:
    """Return how a request uses the cache. Its headers override `mode` and `ttl_s`.

    Raises:
        InvalidRequest: a header has a value that is not allowed.

    """
    headers = request.headers
    ttl_s = ttl_s or DEFAULT_CACHE_TTL_S
    if "x-gateway-cache" in headers or "x-gateway-cache-ttl" in headers:
        given = {
            name: value
            for name in ("x-gateway-cache", "x-gateway-cache-ttl")
            if (value := headers.get(name)) is not None
        }
        wanted = convert(given, _CacheHeaders)
        mode, ttl_s = wanted.mode or mode, wanted.ttl_s or ttl_s  # unset is false
    return CachePolicy(mode=mode, ttl_s=ttl_s)


def asks_strict_translation(request: HttpRequest) -> bool | None:
    """Return True if the request asks to be refused rather than lose a field in its translation; None: as its key says.

    Raises:
        InvalidRequest: the header has a value that is not allowed.

    """
    headers = request.headers
    if "x-gateway-translation" not in headers:
        return None
    given = {"x-gateway-translation": headers["x-gateway-translation"]}
    return convert(given, _TranslationHeader).mode == "strict"


def fallbacks_of(request: HttpRequest, fallbacks: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the models that a request names to be tried next: those of its header, or else those of its body.

    Raises:
        InvalidRequest: the header names too many, or one is no name.

    """
    headers = request.headers
    if "x-gateway-fallbacks" not in headers:
        return tuple(fallbacks or ())
    names = [name for part in headers["x-gateway-fallbacks"].split(",") if (name := part.strip())]
    return tuple(convert({"x-gateway-fallbacks": names}, _FallbacksHeader).names)


def metadata_of(request: HttpRequest, metadata: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the metadata of the body and the header, checked, because the log keeps it for ever.

    Raises:
        InvalidRequest: it is too large, or no JSON object.

    """
    headers = request.headers
    if "x-gateway-metadata" in headers:
        try:
            given = headers["x-gateway-metadata"].encode("latin-1")  # as it came: UTF-8
            metadata = (metadata or {}) | _metadata_decoder.decode(given)
        except msgspec.ValidationError as error:
            raise InvalidRequest(
                f"`x-gateway-metadata`: {invalid(error).message}", field="x-gateway-metadata"
            ) from None
        except (msgspec.DecodeError, UnicodeError) as error:
            message = f"`x-gateway-metadata` is not valid JSON: {error}"
            raise InvalidRequest(message, field="x-gateway-metadata") from None
        except RecursionError:
            raise _too_deep() from None
    if not metadata:
        return None
    if _is_deeper(metadata, MAX_METADATA_DEPTH):
        raise _too_deep()
    encoded = _encode(metadata)
    if len(encoded) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"`metadata` may have {MAX_METADATA_BYTES} bytes as JSON", field="metadata")
    if _has_long_number(metadata):
        raise InvalidRequest(
            "`metadata`: a whole number may have 64 bits; send a longer one as a text", field="metadata"
        )
    if _ENCODED_NUL.search(encoded):
        raise InvalidRequest("`metadata` may not contain the character U+0000", field="metadata")
    return metadata


def id_in_path(text: str) -> str:
    """An id as a path has it.

    Raises:
        NotFound: nothing can have it.

    """
    if _NUL in text:
        raise NotFound("there is no such thing here")
    return text


def in_utc(moment: datetime, field: str) -> datetime:
    """A moment with a time zone, in UTC.

    Raises:
        InvalidRequest: there it lies before the year 1 or after the year 9999.

    """
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(f"`{field}` must lie in the years 1 to 9999 of UTC", field=field) from None


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"`metadata` may be nested {MAX_METADATA_DEPTH} levels deep", field="metadata")


def _has_long_number(value: Any) -> bool:
    """True for whole numbers that no message and no column can hold. `value` is not deep."""
    if isinstance(value, int):
        return not -(2**63) <= value < 2**63
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_long_number(member) for member in members)


def _is_deeper(value: Any, levels: int) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (levels <= 0 and bool(members)) or any(_is_deeper(member, levels - 1) for member in members)
