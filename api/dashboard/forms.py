"""Reads forms and the URL's filters into structs. An empty field is one that was not given."""

import hashlib
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.datastructures import MultiDict
from msgspec import Struct

from api.dashboard.field_words import in_form_words
from api.requests import HttpRequest, convert, in_utc, single_values
from domain.errors import BodyTooLarge, InvalidRequest, UnsupportedEncoding

Shape = TypeVar("Shape")

CSRF_FIELD = "csrf"
SEEN_FIELD = "seen"
"""The mark of what a form has shown."""
MAX_FORM_BYTES = 256 * 1024
MAX_FIELDS = 200
_MARK_DIGITS = 24
LOCAL_TIME = "%Y-%m-%dT%H:%M:%S"
"""A time as `<input type="datetime-local">` has it."""
FORM = "application/x-www-form-urlencoded"


class FieldKinds(Struct, frozen=True, kw_only=True):
    """The fields of a form that are more than a text."""

    lists: Container[str] = ()
    """Each line, or part between commas, is one of several values."""
    moments: Container[str] = ()
    """A browser's local time, which is meant in UTC."""
    nullable: Container[str] = ()
    """None if it is empty; any other empty field is one that was not given."""
    besides: Container[str] = ()
    """Read elsewhere."""


async def form_of(request: HttpRequest, shape: type[Shape], kinds: FieldKinds | None = None) -> Shape:
    """A form as a struct.

    Raises:
        InvalidRequest: names the field and what is wrong with it.

    """
    kinds = kinds or FieldKinds()
    values: dict[str, Any] = {}
    for name, text in (await form_values(request)).items():
        if name in (CSRF_FIELD, SEEN_FIELD) or name in kinds.besides:
            continue
        if text.strip():
            values[name] = _value(name, text.strip(), kinds)
        elif name in kinds.nullable:
            values[name] = None
    return _converted(values, shape)


async def form_values(request: HttpRequest) -> dict[str, str]:
    """The fields of a form whose sender is known, as text.

    Raises:
        BodyTooLarge, InvalidRequest: it is too large, or no form.

    """
    too_large = f"a form may have {MAX_FORM_BYTES} bytes"
    if (request.content_length or 0) > MAX_FORM_BYTES:
        raise BodyTooLarge(too_large)
    body = await request.body()
    if len(body) > MAX_FORM_BYTES:
        raise BodyTooLarge(too_large)
    return _decoded(request, body)


async def form_of_a_stranger(request: HttpRequest, *, max_bytes: int) -> dict[str, str]:
    """The fields of a form whose sender has shown no key. No more than `max_bytes` are read, and nothing is unpacked.

    Raises:
        BodyTooLarge, UnsupportedEncoding, InvalidRequest: it is too large, packed, or no form.

    """
    if "content-encoding" in request.headers:
        raise UnsupportedEncoding("a form is not packed")
    body = b""
    async for piece in Request.stream(request):  # uncounted: it is less than a head may have
        body += piece
        if len(body) > max_bytes:
            raise BodyTooLarge(f"this form may have {max_bytes} bytes")
    return _decoded(request, body)


def mark_of(shown: Mapping[str, str]) -> str:
    """Hash the fields that a form shows. The form sends the hash back, so that a form left open cannot undo a later
    change.
    """
    return hashlib.sha256(msgspec.json.encode(dict(sorted(shown.items())))).hexdigest()[:_MARK_DIGITS]


def is_outdated(sent: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Return True if the fields have changed since the form was loaded."""
    return sent.get(SEEN_FIELD, mark_of(now)) != mark_of(now)


def filters_of(request: HttpRequest, shape: type[Shape]) -> Shape:
    """The filters of a page's URL as a struct.

    Raises:
        InvalidRequest: names the filter and what is wrong with it.

    """
    given = single_values(request.query_params)
    return _converted({name: text.strip() for name, text in given.items() if text.strip()}, shape)


def _converted(values: Mapping[str, Any], shape: type[Shape]) -> Shape:
    try:
        return convert(values, shape)
    except InvalidRequest as error:
        raise in_form_words(error) from None


def moment_of(text: str | None, field: str) -> datetime | None:
    """A time of a page's URL, in UTC, which one without a zone is meant in; None if there is none.

    Raises:
        InvalidRequest: it is no time.

    """
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"`{field}` is {text!r}: it must be a time, such as 2026-11-26T06:05", field=field
        ) from None
    return in_utc(at if at.tzinfo is not None else at.replace(tzinfo=UTC), field)


def _decoded(request: HttpRequest, body: bytes) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise InvalidRequest(f"a form has content type {FORM}")
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body), errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        raise InvalidRequest("the form cannot be read") from None
    return single_values(MultiDict(fields))


def _value(name: str, text: str, kinds: FieldKinds) -> str | list[str]:
    if name in kinds.lists:
        return _parts(text)
    return f"{text}Z" if name in kinds.moments else text


def _parts(text: str) -> list[str]:
    return [part.strip() for line in text.splitlines() for part in line.split(",") if part.strip()]
