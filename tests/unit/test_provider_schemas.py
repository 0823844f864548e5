"""The test provider's example values match their JSON schemas."""

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from tests.provider.bill import Usage, sent_so_far
from tests.provider.request_model import pieces
from tests.provider.schema import example

SAID = "said"


class Node(BaseModel):
    name: str
    children: list["Node"]
    parent: "Node | None" = None


class Mixed(BaseModel):
    pair: tuple[int, str]
    either: int | str
    fixed: Literal["only"]
    mapping: dict[str, int]
    few: Annotated[list[bool], Field(min_length=2, max_length=2)]
    short: Annotated[str, Field(max_length=2)]
    long: Annotated[str, Field(min_length=30)]
    between: Annotated[int, Field(ge=10, le=20)]
    above: Annotated[int, Field(gt=4, multiple_of=4)]
    below: Annotated[float, Field(lt=0)]


@pytest.mark.parametrize("wanted", [Node, Mixed, list[Node], Node | None])
def test_an_example_is_valid(wanted: Any) -> None:
    kind: TypeAdapter[Any] = TypeAdapter(wanted)
    kind.validate_python(example(kind.json_schema(), SAID), strict=False)


def test_parts_of_all_kinds_are_put_together() -> None:
    schema = {
        "allOf": [
            {"$ref": "#/$defs/A"},
            {"type": "object", "properties": {"b": {"type": ["null", "integer"]}}, "required": ["b"]},
        ],
        "$defs": {"A": {"type": "object", "properties": {"a": {"enum": ["first", "second"]}}}},
    }
    assert example(schema, SAID) == {"a": "first", "b": 1}


@given(st.text(), st.integers(1, 300))
def test_pieces_are_the_text_and_none_is_empty(text: str, count: int) -> None:
    found = pieces(text, count)
    assert "".join(found) == text
    assert all(found)
    assert len(found) == min(count, len(text))


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 300), st.data())
def test_charge_grows_with_the_input(visible: int, reasoning: int, deltas: int, data: st.DataObject) -> None:
    whole = Usage(tokens_in=5, tokens_out=visible + reasoning, reasoning=reasoning)
    sent = data.draw(st.integers(0, deltas - 1))
    charged, next_charged = (sent_so_far(whole, count, deltas).tokens_out for count in (sent, sent + 1))
    assert reasoning <= charged <= next_charged <= whole.tokens_out
    assert sent_so_far(whole, deltas, deltas) == whole
