"""Success as the native surface shows it, and how routes describe themselves in OpenAPI.

Litestar would describe what its own decoding reads; ours is msgspec's, so the schemas are msgspec's as well.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar import Response
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)

JSON = "application/json"
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Failure(msgspec.Struct, kw_only=True, rename="camel"):
    """Why a request failed."""

    code: str
    message: str
    request_id: str
    details: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class FailureEnvelope(msgspec.Struct, kw_only=True):
    """Every failure's answer."""

    success: bool
    error: Failure


def success(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response[bytes]:
    """Answer `{"success": true, "data": …}`."""
    content = b'{"success":true,"data":' + _encode(data) + b"}"
    return Response(content, status_code=status, media_type=JSON, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a route takes and gives, for OpenAPI."""

    answer: Any
    status: int = 200
    body: Any = None
    query: type[msgspec.Struct] | None = None
    errors: tuple[int, ...] = (400, 401, 403, 404, 413, 429, 503)
    enveloped: bool = True


class Described:
    """Collects the types of every route; gives each its operation, and the document its components."""

    def __init__(self) -> None:
        self._types: list[Any] = [FailureEnvelope]

    def operation(self, description: Description) -> type[Operation]:
        """Make the operation class that a route is declared with."""
        self._types += [kind for kind in (description.answer, description.body, description.query) if kind is not None]

        @dataclass
        class DescribedOperation(Operation):
            def __post_init__(self) -> None:
                self.responses = _responses(description)
                if description.body is not None:
                    content = {JSON: OpenAPIMediaType(schema=_schema(description.body))}
                    self.request_body = RequestBody(content=content, required=True)
                if description.query is not None:
                    self.parameters = [*(self.parameters or ()), *_parameters(description.query)]

        return DescribedOperation

    def components(self) -> dict[str, Schema]:
        """The schemas that the operations refer to."""
        _, components = msgspec.json.schema_components(self._types, ref_template="#/components/schemas/{name}")
        return {name: RawSchema(raw=_numbers(schema)) for name, schema in components.items()}


@dataclass
class RawSchema(Schema):
    """A schema that msgspec has written already."""

    raw: dict[str, Any] = field(default_factory=dict)

    def to_schema(self) -> dict[str, Any]:
        """Give it as it is."""
        return self.raw


def _responses(description: Description) -> dict[str, OpenAPIResponse | Reference]:
    answer: Schema = _schema(description.answer)
    if description.enveloped:
        answer = RawSchema(
            raw={
                "type": "object",
                "required": ["success", "data"],
                "properties": {"success": {"const": True}, "data": answer.to_schema()},
            }
        )
    responses: dict[str, OpenAPIResponse | Reference] = {
        str(description.status): OpenAPIResponse(description="Success", content={JSON: OpenAPIMediaType(schema=answer)})
    }
    failure = _schema(FailureEnvelope)
    for status in (*description.errors, 500):
        responses[str(status)] = OpenAPIResponse(
            description="Failure", content={JSON: OpenAPIMediaType(schema=failure)}
        )
    return responses


def _schema(kind: Any) -> RawSchema:
    schema, _ = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    return RawSchema(raw=_numbers(schema[0]))


def _parameters(query: type[msgspec.Struct]) -> list[Parameter | Reference]:
    (described,), components = msgspec.json.schema_components([query], ref_template="#/components/schemas/{name}")
    object_schema = components[described["$ref"].rpartition("/")[2]]
    required = object_schema.get("required", ())
    return [
        Parameter(name=name, param_in="query", required=name in required, schema=RawSchema(raw=_numbers(schema)))
        for name, schema in object_schema["properties"].items()
    ]


def _numbers(schema: Any) -> Any:
    """Decimals travel as numbers here, not as msgspec's strings."""
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            return {name: value for name, value in schema.items() if name != "format"} | {"type": "number"}
        return {name: _numbers(value) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_numbers(value) for value in schema]
    return schema
