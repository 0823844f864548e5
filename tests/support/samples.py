"""Sample schemas, tools and an image for requests of the SDKs."""

from typing import Any, Literal

from pydantic import BaseModel

COUNTED = "[[tokens=70/30]] [[cached=20]] [[cachewrite=9]] [[reasoning=7]]"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""


class Item(BaseModel):
    """A part of an order."""

    name: str
    amount: int


class Order(BaseModel):
    """An order."""

    kind: Literal["small", "large"]
    note: str | None
    items: list[Item]


class Lookup(BaseModel):
    """Look up the weather."""

    city: str
    days: int


SCHEMA = Lookup.model_json_schema()
OPENAI_TOOLS: Any = [
    {"type": "function", "function": {"name": "Lookup", "description": "Looks it up.", "parameters": SCHEMA}}
]
ANTHROPIC_TOOLS: Any = [{"name": "Lookup", "description": "Looks it up.", "input_schema": SCHEMA}]
RESPONSES_TOOLS: Any = [{"type": "function", "name": "Lookup", "strict": False, "parameters": SCHEMA}]
