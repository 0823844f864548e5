"""What a request says, on any surface, of how it wants to be delivered: the `x-gateway-…` headers."""

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api.request_context import CachePolicy
from api.requests import HttpRequest, convert
from domain.decoding import invalid
from domain.errors import InvalidRequest

MIN_CACHE_TTL_S = 60
MAX_CACHE_TTL_S = 86_400
DEFAULT_CACHE_TTL_S = 3_600
MAX_METADATA_MEMBERS = 32
MAX_METADATA_NAME_CHARS = 64
MAX_METADATA_BYTES = 8_192
MAX_METADATA_DEPTH = 16
"""It is read again in many places: none of them may have less room for it than this one."""

CacheTtl = Annotated[int, Meta(ge=MIN_CACHE_TTL_S, le=MAX_CACHE_TTL_S)]
CacheMode = Literal["on", "off", "refresh"]
MetadataName = Annotated[str, Meta(min_length=1, max_length=MAX_METADATA_NAME_CHARS, pattern="^[^\\x00]*$")]
Metadata = Annotated[dict[MetadataName, Any], Meta(max_length=MAX_METADATA_MEMBERS)]


class _CacheHeaders(Struct, frozen=True, rename={"mode": "x-gateway-cache", "ttl_s": "x-gateway-cache-ttl"}):
    """The headers by which a request on any surface says what it wants of the cache."""

    mode: CacheMode | UnsetType = UNSET
    ttl_s: CacheTtl | UnsetType = UNSET


_metadata_decoder = msgspec.json.Decoder(Metadata)
_encode = msgspec.json.Encoder().encode
_NUL = re.compile(rb"\\u0000")


def cache_policy(request: HttpRequest, *, mode: CacheMode, ttl_s: int | None = None) -> CachePolicy:
    """What is wanted of the cache: the headers' word goes before what else is known.

    Raises:
        InvalidRequest: a header says what is not allowed.

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


def metadata_of(request: HttpRequest, metadata: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The body's metadata and the header's, checked: it is kept in the log for ever.

    Raises:
        InvalidRequest: it is too large, or no JSON object.

    """
    header = request.headers.get("x-gateway-metadata")
    if header is not None:
        try:
            metadata = (metadata or {}) | _metadata_decoder.decode(header.encode("latin-1"))  # as it came: UTF-8
        except msgspec.ValidationError as error:
            raise InvalidRequest(
                f"`x-gateway-metadata`: {invalid(error).message}", field="x-gateway-metadata"
            ) from None
        except msgspec.DecodeError as error:
            message = f"`x-gateway-metadata` is not valid JSON: {error}"
            raise InvalidRequest(message, field="x-gateway-metadata") from None
    if not metadata:
        return None
    encoded = _encode(metadata)
    if len(encoded) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"`metadata` may have {MAX_METADATA_BYTES} bytes as JSON", field="metadata")
    if _is_deeper(metadata, MAX_METADATA_DEPTH):
        raise InvalidRequest(f"`metadata` may be nested {MAX_METADATA_DEPTH} levels deep", field="metadata")
    if _NUL.search(encoded):
        raise InvalidRequest("`metadata` may not contain the character U+0000", field="metadata")
    return metadata


def _is_deeper(value: Any, levels: int) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (levels <= 0 and bool(members)) or any(_is_deeper(member, levels - 1) for member in members)
