"""What becomes of each field of a request on its way to a provider of another dialect: one rule for each.

A field is *carried* by the other vendor's own means; or it is *dropped*, if leaving it out does not change what is
asked, and the caller is told its name; or it is *refused* by name, if the answer would not be the one that was asked
for. The rules of a dialect's clients stand beside its `parse_request`, those of its providers beside its
`adapt_request`. The page `docs/reference/translation.md` is written from them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from domain.decoding import decoded
from domain.errors import InvalidRequest

Shape = TypeVar("Shape")

MAX_DROPPED = 32
"""The most names that are told of one request."""
MAX_DROPPED_NAME_CHARS = 64

_TYPE_OR_ROLE = re.compile(r"(^|\.)(type|role)$")
_NO_NAME = re.compile(r"[^\w.-]", re.ASCII)


class FieldRule(Struct, frozen=True, kw_only=True):
    """What becomes of one field."""

    field: str
    """Its path, as the vendor spells it: `seed`, `messages[].name`."""
    fate: Literal["carried", "dropped", "refused"]
    how: str
    """Carried: by which means. Dropped: why that changes nothing. Refused: what to send instead."""
    harmless: tuple[Any, ...] = ()
    """Values that say no more than an absent field does: neither told nor refused. Null always is one."""


class DroppedFields:
    """Collects the names of the fields that one request loses."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, field: str) -> None:
        """Drop a field. Of a path, the last member's name is told, once."""
        name = _NO_NAME.sub("", field.rpartition(".")[2])[:MAX_DROPPED_NAME_CHARS]
        if name and len(self._names) < MAX_DROPPED:
            self._names[name] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names, each once, in the order of their dropping."""
        return tuple(self._names)


def rules_by_name(rules: Iterable[FieldRule], inside: str = "") -> dict[str, FieldRule]:
    """The rules of the members of one object, dropped and refused ones, by member. `inside` is the object's path."""
    prefix = f"{inside}." if inside else ""
    return {
        rule.field.removeprefix(prefix): rule
        for rule in rules
        if rule.fate != "carried" and rule.field.startswith(prefix) and "." not in rule.field[len(prefix) :]
    }


def apply_rules(
    rules: Mapping[str, FieldRule], given: Struct | Mapping[str, Any], dropped: DroppedFields, *, inside: str = ""
) -> None:
    """Drop or refuse the members of one object of a request. `inside` is its path.

    Raises:
        InvalidRequest: names a member that is refused, and what to send instead.

    """
    is_mapping = not isinstance(given, Struct)
    for name, rule in rules.items():
        value = given.get(name) if is_mapping else getattr(given, name, None)  # type: ignore[union-attr]
        if value is None or value in rule.harmless:
            continue
        path = f"{inside}.{name}" if inside else name
        if rule.fate == "refused":
            raise not_translatable(path, rule.how)
        dropped.add(path)


def drop_unknown(known: Any, given: Any, dropped: DroppedFields) -> None:
    """Drop the members that the vendor's API does not have, at any depth.

    `given` is a request's JSON as it came, `known` the same as structs. Data of the caller's own (a schema, a call's
    arguments) is no struct, so its members are all kept.
    """
    if isinstance(known, Struct) and isinstance(given, dict):
        fields = dict(zip(known.__struct_encode_fields__, known.__struct_fields__, strict=True))
        tag = known.__struct_config__.tag_field
        for name, value in given.items():
            if name in fields:
                drop_unknown(getattr(known, fields[name]), value, dropped)
            elif name != tag and value is not None:
                dropped.add(name)
    elif isinstance(known, list) and isinstance(given, list):
        for one, other in zip(known, given, strict=False):
            drop_unknown(one, other, dropped)


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


def not_translatable(field: str, advice: str) -> InvalidRequest:
    """The refusal of a field that another vendor's model cannot be sent."""
    return InvalidRequest(f"`{field}` cannot be sent to a model of another vendor: {advice}", field=field)


def in_camel_case(names: Iterable[str]) -> Iterator[str]:
    """The names of fields as the native API spells them."""
    for name in names:
        first, *rest = name.split("_")
        yield first + "".join(word.capitalize() for word in rest)
