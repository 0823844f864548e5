"""JSON Schemas become those that Anthropic takes, as its own SDK makes them."""

from typing import Annotated, Any, Literal

import pytest
from anthropic import transform_schema
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from domain.dialects.anthropic.schemas import NotExpressible, answer_schema, input_schema, may_be_strict


class Item(BaseModel):
    """A part of an order."""

    name: Annotated[str, Field(min_length=1, max_length=9, pattern="^a")]
    amount: Annotated[int, Field(ge=0, lt=100, multiple_of=2)]
    note: str | None = None


class Order(BaseModel):
    """An order."""

    reasoning: str
    kind: Literal["small", "large"] = "small"
    items: Annotated[list[Item], Field(min_length=2, max_length=5)]
    first: Annotated[list[Item], Field(min_length=1)]
    share: Annotated[float, Field(gt=0, le=1, description="A share.")]


LEAVES = st.sampled_from(
    [
        {"type": "string", "maxLength": 3},
        {"type": "string", "format": "email"},
        {"type": "string", "format": "odd"},
        {"type": "integer", "minimum": 0, "maximum": 5, "description": "d"},
        {"type": "number", "exclusiveMinimum": 0, "default": 1},
        {"type": "boolean", "title": "t"},
        {"type": "null"},
        {"enum": ["a", 1, None]},
        {"const": "a", "type": "string"},
        {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda members, required: {
                "type": "object",
                "properties": members,
                "required": [name for name in members if name in required],
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("zyxab"), inner, max_size=3),
            st.sets(st.sampled_from("zyxab")),
        ),
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 2)),
        st.builds(lambda one, other: {"oneOf": [one, other], "description": "d"}, inner, inner),
    ),
    max_leaves=5,
)


@given(SCHEMAS)
def test_a_schema_is_what_anthropics_sdk_makes_of_it(schema: dict[str, Any]) -> None:
    assert answer_schema(schema) == transform_schema(schema)


@pytest.mark.parametrize("model", [Order, Item])
def test_a_pydantic_model_is_what_anthropics_sdk_makes_of_it(model: type[BaseModel]) -> None:
    assert answer_schema(model.model_json_schema()) == transform_schema(model)
    assert list(answer_schema(model.model_json_schema())["properties"]) == list(model.model_fields)


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {"type": ["string", "null"], "maxLength": 3},
            {"anyOf": [{"type": "string", "description": "{maxLength: 3}"}, {"type": "null"}]},
        ),
        (
            {"allOf": [{"$ref": "#/definitions/Y"}], "description": "d", "definitions": {"Y": {"enum": ["a"]}}},
            {"$defs": {"Y": {"enum": ["a"]}}, "anyOf": [{"$ref": "#/$defs/Y"}], "description": "d"},
        ),
        ({"properties": {"a": {"type": "string"}}}, CLOSED),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "string"}, {"type": "string"}),
    ],
)
def test_what_the_sdk_refuses_or_loses_is_carried(schema: Any, expected: Any) -> None:
    assert answer_schema(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}},
        {"$ref": "https://example.com/schema"},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"any": {}}},
        {"type": "array", "items": True},
        {"type": "object", "properties": {str(n): {"type": "string"} for n in range(25)}},
        {"allOf": [{"$ref": "#/$defs/A"}, {"type": "null"}], "$defs": {"A": {"type": "null"}}},
    ],
)
def test_a_schema_that_its_decoder_cannot_keep_to_is_not_expressible(schema: Any) -> None:
    with pytest.raises(NotExpressible):
        answer_schema(schema)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": ["object", "null"], "properties": None}, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": CLOSED}},
            CLOSED | {"$defs": {"A": CLOSED}},
        ),
        (
            {"oneOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]},
            {
                "type": "object",
                "properties": {"a": {}, "b": {}},
                "description": "Give exactly one of these sets of members: {a}, {b}.",
            },
        ),
        (
            {"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]},
            {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
        ),
        (
            {"anyOf": [{"required": ["a"]}, {"required": ["a", "b"]}], "properties": {"a": {}, "b": {}}},
            {
                "type": "object",
                "properties": {"a": {}, "b": {}},
                "required": ["a"],
                "description": "Give at least one of these sets of members: {a}, {a, b}.",
            },
        ),
    ],
)
def test_a_tools_input_is_an_object_without_a_union_at_its_top(given_: Any, expected: Any) -> None:
    assert input_schema(given_) == expected


@pytest.mark.parametrize(
    ("schema", "may_be"),
    [
        (CLOSED, False),
        (CLOSED | {"required": ["a"]}, True),
        (CLOSED | {"required": ["a"], "additionalProperties": True}, False),
        ({"type": "array", "items": CLOSED}, False),
        ({"$defs": {"type": CLOSED}, "$ref": "#/$defs/type"}, False),
        ({"anyOf": [CLOSED | {"required": ["a"]}, {"type": "null"}]}, True),
    ],
)
def test_a_schema_is_strict_only_where_it_may_be(schema: Any, may_be: bool) -> None:
    assert may_be_strict(schema) == may_be


OBJECT: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
ODD = [True, 1, 1.5, "x", [None], [1], [{}], [[]], {"a": 1}, {"type": None}]
MEMBERS = ["type", "properties", "required", "items", "anyOf", "oneOf", "allOf", "$ref", "$defs", "enum", "format"]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("member", MEMBERS)
def test_what_is_no_schema_is_not_expressible_and_nothing_worse(member: str, value: Any) -> None:
    for schema in (OBJECT | {member: value}, OBJECT | {"properties": {"a": {"type": "string", member: value}}}):
        may_be_strict(schema)
        input_schema(schema)
        try:
            assert isinstance(answer_schema(schema), dict)
        except NotExpressible:
            continue


def test_many_definitions_take_no_more_time_than_their_number() -> None:
    chain: dict[str, Any] = {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(50_000)}
    schema = {"$ref": "#/$defs/d0", "$defs": chain | {"d50000": {"type": "string"}}}
    assert len(answer_schema(schema)["$defs"]) == 50_001


def test_a_type_that_is_listed_twice_is_read_once() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(30):
        schema = {"type": ["object", "object"], "properties": {"a": schema}, "required": ["a"]}
    assert list(answer_schema(schema)) == ["anyOf"]


def test_what_is_nested_too_deeply_is_not_strict() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(2_000):
        schema = {"anyOf": [schema]}
    assert not may_be_strict(schema)
