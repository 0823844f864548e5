"""Refuses, by the field's name, what a request would lose on its way to a provider of another dialect."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from domain.dialects.field_rules import decode_translatable, not_translatable

__all__ = ["DroppableField", "RequestStruct", "decode_translatable", "not_translatable", "reject_lossy_fields"]


class RequestStruct(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a request as its vendor's clients write it. A field that it does not declare is refused by name."""


class DroppableField(Struct, frozen=True):
    """A field that is read and not translated: values that can be dropped without loss, and advice for any other."""

    lossless_values: tuple[Any, ...]
    advice: str


def reject_lossy_fields(droppable: Mapping[str, DroppableField], given: Struct, *, inside: str = "") -> None:
    """Refuse fields whose value would be lost. Null is the same as an absent field.

    Raises:
        InvalidRequest: names the field and what to send instead.

    """
    for name, field in droppable.items():
        value = getattr(given, name)
        if value is not None and value not in field.lossless_values:
            raise not_translatable(f"{inside}.{name}" if inside else name, field.advice)
