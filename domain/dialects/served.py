"""What the vendors' surfaces read from their clients, and how they refuse what another vendor cannot be told."""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from domain.canonical.embeddings import EmbeddingsRequest
from domain.decoding import decoded
from domain.errors import InvalidRequest

Shape = TypeVar("Shape")

EncodingFormat = Literal["float", "base64"]

_KIND = re.compile(r"(^|\.)(type|role)$")
_HUMP = re.compile(r"(?<=[a-z])[A-Z]")


class ServedEmbeddings(Struct, frozen=True, kw_only=True):
    """A client's texts, and how it wants the vectors spelled."""

    request: EmbeddingsRequest
    encoding_format: EncodingFormat = "float"


class Wire(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a vendor's request as its clients spell it; a field that it does not name is refused by name."""


class DroppableField(Struct, frozen=True):
    """A field that is read and carried nowhere: which of its values lose nothing by that, and what to do otherwise."""

    harmless: tuple[Any, ...]
    advice: str


def read(body: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[Shape]", *, inside: str = "") -> Shape:
    """The body as its vendor's shape. A kind (of message, part, block, tool) that no shape has is refused as such.

    Raises:
        InvalidRequest: names the field and what is wrong with it.

    """
    try:
        return decoded(body, decoder, inside=inside)
    except InvalidRequest as error:
        if error.field is None or not _KIND.search(error.field) or "Invalid" not in error.message:
            raise  # not a kind, or one that is missing
        raise InvalidRequest(
            f"{error.message}: a model of another vendor cannot be sent this", field=error.field
        ) from None


def reject_lossy_fields(harmless: Mapping[str, DroppableField], given: Struct, *, inside: str = "") -> None:
    """Refuse, by name, what is carried nowhere and would be missed. Null says no more than an absent field.

    Raises:
        InvalidRequest: names the field and what to do instead.

    """
    for name, only in harmless.items():
        value = getattr(given, name)
        if value is not None and value not in only.harmless:
            raise refused(f"{inside}.{name}" if inside else name, only.advice)


def refused(field: str, advice: str) -> InvalidRequest:
    """The refusal of a field that another vendor's model cannot be sent."""
    return InvalidRequest(f"`{field}` cannot be sent to a model of another vendor: {advice}", field=field)


def in_snake_case(error: InvalidRequest) -> InvalidRequest:
    """A refusal of the canonical request as OpenAI's clients, whose structure is the same, spell its field."""
    if error.field is None:
        return error
    field = _HUMP.sub(lambda hump: f"_{hump[0].lower()}", error.field)
    respelled = InvalidRequest(error.message.replace(f"`{error.field}`", f"`{field}`"), field=field)
    respelled.limit_status = error.limit_status
    return respelled
