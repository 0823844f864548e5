"""An error names the field by its path in the JSON, and lists the values of an enumeration."""

from enum import StrEnum
from typing import Literal

import msgspec
import pytest
from msgspec import Struct

from domain.decoding import decoded
from domain.errors import InvalidRequest


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Wheel(Struct, rename="camel", tag="wheel"):
    tyre_kind: Literal["winter", "summer"]
    spare: Literal["one", "two"] | None = None
    side: Literal["left"] = "left"


class Door(Struct, rename="camel", tag="door"):
    side: Literal["right"] = "right"


class Car(Struct, rename="camel"):
    paint_colour: Colour = Colour.RED
    parts: list[Wheel | Door] = []
    by_name: dict[str, Wheel] = {}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"paintColour": "green"}', "`paintColour`: Invalid enum value 'green' (allowed: red, blue)"),
        (
            '{"parts": [{"type": "wheel", "tyreKind": "none"}]}',
            "`parts[0].tyreKind`: Invalid enum value 'none' (allowed: summer, winter)",
        ),
        (
            '{"byName": {"a": {"type": "wheel", "tyreKind": "summer", "spare": "three"}}}',
            "`byName[...].spare`: Invalid enum value 'three' (allowed: one, two)",
        ),
        ('{"parts": [{"type": "door", "side": "left"}]}', "`parts[0].side`: Invalid enum value 'left'"),
    ],
)
def test_of_an_enumeration_what_is_allowed_is_said(body: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        decoded(body.encode(), msgspec.json.Decoder(Car))
    assert raised.value.message == said
