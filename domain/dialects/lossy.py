"""Refuses, by the field's name, what a request would lose on its way to a provider of another dialect."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from domain.decoding import decoded
from domain.errors import InvalidRequest

Shape = TypeVar("Shape")

_TYPE_OR_ROLE = re.compile(r"(^|\.)(type|role)$")


class RequestStruct(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a request as its vendor's clients write it. A field that it does not declare is refused by name."""


class DroppableField(Struct, frozen=True):
    """A field that is read and not translated: values that can be dropped without loss, and advice for any other."""

    lossless_values: tuple[Any, ...]
    advice: str


def decode_translatable(
    body: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[Shape]", *, inside: str = ""
) -> Shape:
    """Decode a request, or the part of it at the path `inside`, that is to be translated.

    Raises:
        InvalidRequest: names the field. An unknown type (of a message, part, block or tool) is refused as one that
            another vendor's model cannot be sent.

    """
    try:
        return decoded(body, decoder, inside=inside)
    except InvalidRequest as error:
        if error.field is None or not _TYPE_OR_ROLE.search(error.field) or "Invalid" not in error.message:
            raise  # another field, or a type that is missing
        raise InvalidRequest(
            f"{error.message}: a model of another vendor cannot be sent this", field=error.field
        ) from None


def reject_lossy_fields(droppable: Mapping[str, DroppableField], given: Struct, *, inside: str = "") -> None:
    """Refuse fields whose value would be lost. Null is the same as an absent field.

    Raises:
        InvalidRequest: names the field and what to send instead.

    """
    for name, field in droppable.items():
        value = getattr(given, name)
        if value is not None and value not in field.lossless_values:
            raise not_translatable(f"{inside}.{name}" if inside else name, field.advice)


def not_translatable(field: str, advice: str) -> InvalidRequest:
    """The refusal of a field that another vendor's model cannot be sent."""
    return InvalidRequest(f"`{field}` cannot be sent to a model of another vendor: {advice}", field=field)
