"""A JSON answer of a model of Anthropic's: by its decoder, by a tool that it has to call, or by an instruction.

The decoder (`output_config.format`) holds newer models to most schemas. For others the schema becomes the input of a
tool, and what the model calls it with is the answer's text. A model that thinks cannot be made to call a tool, and no
schema but an object's is a tool's: there the schema is part of the instructions.
"""

from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import ChatRequest, JsonSchema
from domain.dialects.anthropic.schemas import NotExpressible, answer_schema, input_schema
from domain.errors import InvalidRequest
from domain.models import ModelTraits

ANSWER_TOOL = "gateway_structured_answer"
"""Calls of it are read as the answer's text, and no client sees them."""
ANSWER_IN_JSON = "Answer with one valid JSON object and nothing else: no text around it, no code fence."
ANSWER_BY_SCHEMA = (
    "Answer with JSON that is valid by the JSON Schema below and nothing else: no text around it, no code fence.\n\n"
)
_CALL_IT = "Gives the answer to the user. Call it when the answer is complete."

_encode = msgspec.json.encode


class StructuredAnswer(Struct, frozen=True, kw_only=True):
    """How the answer is to become JSON. One of them, or none."""

    output_format: dict[str, Any] | None = None
    tool: dict[str, Any] | None = None
    instruction: str | None = None


def structured_answer(request: ChatRequest, traits: ModelTraits, *, may_force: bool) -> StructuredAnswer:
    """Choose the way. `may_force`: nothing else of the request forbids that a tool must be called.

    Raises:
        InvalidRequest: the format is by a schema, and there is none.

    """
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return StructuredAnswer()
    if wanted.type == "json_object":
        return StructuredAnswer(instruction=ANSWER_IN_JSON)
    if wanted.json_schema is None:
        field = "response_format.json_schema"
        raise InvalidRequest(f"`{field}`: a format of type 'json_schema' needs it", field=field)
    schema = _with_description(wanted.json_schema)
    if traits.takes_structured_output:
        try:
            return StructuredAnswer(output_format={"type": "json_schema", "schema": answer_schema(schema)})
        except NotExpressible:
            pass
    if may_force and traits.takes_tools and traits.takes_forced_tool and schema.get("type") == "object":
        tool = {"name": ANSWER_TOOL, "description": _CALL_IT, "input_schema": input_schema(schema)}
        return StructuredAnswer(tool=tool)
    return StructuredAnswer(instruction=ANSWER_BY_SCHEMA + _encode(schema).decode())


def _with_description(wanted: JsonSchema) -> dict[str, Any]:
    """The schema, with the format's description inside: Anthropic has no other place for it."""
    own = wanted.schema.get("description")
    if wanted.description is None or own == wanted.description:
        return wanted.schema
    return wanted.schema | {"description": f"{wanted.description}\n\n{own}" if own else wanted.description}
