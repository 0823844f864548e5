"""Decodes JSON from callers into types. An error names the field's path in the caller's spelling."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

from domain.errors import BodyTooLarge, InvalidRequest
from domain.names import NAME_PATTERN

Shape = TypeVar("Shape")

MAX_JSON_VALUES = 500_000
"""In one body. No vendor takes as many: 300,000 tokens in an embeddings request are the most. Decoding them takes
a moment; decoding the millions that a body has room for would stop everything else.
"""

_MATCHING_NAME = f"matching regex {NAME_PATTERN!r}"
_AT = re.compile(r" - at `\$(?:\.)?(?P<path>.*?)`$")
_PARTS = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_NO_SUCH_VALUE = "Invalid enum value"
_NAMED = re.compile(r"(?:unknown|required) field `(?P<field>[^`]+)`")


def decoded(body: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[Shape]", *, inside: str = "") -> Shape:
    """Decode JSON into the decoder's type. `inside` is the path of the JSON in its body, if it is a part of one.

    Raises:
        InvalidRequest: names the field and what is wrong with it.
        BodyTooLarge: as `check_values`.

    """
    if isinstance(body, bytes):
        check_values(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error, decoder.type, inside=inside) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None


def converted(value: Any, shape: type[Shape], *, inside: str = "") -> Shape:
    """Turn a part of decoded JSON, which stands at the path `inside`, into a type.

    Raises:
        InvalidRequest: names the field and what is wrong with it.

    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise invalid(error, shape, inside=inside) from None


def check_values(body: bytes) -> None:
    """Refuse JSON of more than `MAX_JSON_VALUES` values and names, without decoding it.

    Raises:
        BodyTooLarge: it has more.

    """
    if len(body) <= 2 * MAX_JSON_VALUES or _separators(body, 0, len(body)) < MAX_JSON_VALUES:
        return
    body = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # an escaped quote ends no string
    values = start = 0
    while values <= MAX_JSON_VALUES:
        quote = body.find(b'"', start)
        values += _separators(body, start, quote if quote >= 0 else len(body))
        closing = body.find(b'"', quote + 1) if quote >= 0 else -1
        if closing < 0:
            break
        values += 1
        start = closing + 1
    if values > MAX_JSON_VALUES:
        raise BodyTooLarge(f"the body may have {MAX_JSON_VALUES} JSON values")


def _separators(body: bytes, start: int, end: int) -> int:
    """Count the separators in a stretch of JSON outside strings: at most one value follows each."""
    return body.count(b",", start, end) + body.count(b"[", start, end) + body.count(b"{", start, end)


def invalid(error: msgspec.ValidationError, shape: Any = None, *, inside: str = "") -> InvalidRequest:
    """Turn msgspec's error into ours: the field's path in front and, if its `shape` is known, what is allowed there."""
    text = str(error)
    at = _AT.search(text)
    path = at["path"] if at else ""
    reason = (text[: at.start()] if at else text).replace(_MATCHING_NAME, "without control characters")
    if shape is not None and reason.startswith(_NO_SUCH_VALUE):
        reason += _what_is_allowed(shape, path)
    named = _NAMED.search(reason)
    path = ".".join(part for part in (inside, path, named["field"] if named else "") if part).replace(".[", "[")
    return InvalidRequest(f"`{path}`: {reason}" if path else reason, field=path or None)


_type_info = lru_cache(maxsize=256)(msgspec.inspect.type_info)


def _what_is_allowed(shape: Any, path: str) -> str:
    """Return the values of the enumeration at a path, in words. Empty if several stand there."""
    kinds = [_type_info(shape)]
    for part in _PARTS.findall(path):
        kinds = [inner for kind in _alternatives(kinds) for inner in _inside(kind, part)]
    found = {
        tuple(kind.values if isinstance(kind, msgspec.inspect.LiteralType) else [one.value for one in kind.cls])
        for kind in _alternatives(kinds)
        if isinstance(kind, msgspec.inspect.LiteralType | msgspec.inspect.EnumType)
    }
    if len(found) != 1:
        return ""
    (values,) = found
    return f" (allowed: {', '.join('null' if value is None else str(value) for value in values)})"


def _alternatives(kinds: list[msgspec.inspect.Type]) -> Iterator[msgspec.inspect.Type]:
    for kind in kinds:
        if isinstance(kind, msgspec.inspect.UnionType):
            yield from _alternatives(list(kind.types))
        elif isinstance(kind, msgspec.inspect.Metadata):
            yield from _alternatives([kind.type])
        else:
            yield kind


def _inside(kind: msgspec.inspect.Type, part: str) -> list[msgspec.inspect.Type]:
    """Return the types of what stands in a value, under a part of a path as msgspec writes it."""
    match kind:
        case msgspec.inspect.StructType():
            return [field.type for field in kind.fields if field.encode_name == part]
        case msgspec.inspect.DictType() if part == "[...]":
            return [kind.value_type]
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType() if part.startswith("["):
            return [kind.item_type]
        case _:
            return []
