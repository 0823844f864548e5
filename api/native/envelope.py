"""Success as the native surface shows it, and how routes describe themselves in OpenAPI.

Litestar would describe what its own decoding reads; ours is msgspec's, so the schemas are msgspec's as well.
"""

from dataclasses import dataclass
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

from api.native import headers
from api.native.headers import JSON, RawSchema

EVENT_STREAM = "text/event-stream"
API_KEY, MASTER_KEY = "apiKey", "masterKey"
"""The security schemes."""

_FAILURES: dict[int | str, str] = {
    400: "A field, or the JSON, is wrong",
    401: "No key, or none that works",
    402: "A budget does not cover it",
    403: "The key may not do this",
    404: "There is no such thing here, or no such model",
    413: "The body is too large",
    429: "A limit of the key's, or of the provider's",
    "4XX": "The provider refuses the request: its own status",
    500: "Something went wrong here; the log says what",
    502: "The provider is down, or refuses the key that it was called with",
    503: "The queue is full, or the database or the broker is away",
    504: "The provider did not answer in time",
}

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
    errors: tuple[int | str, ...] = (400, 401, 403, 404, 413, 503)
    """Statuses; `4XX` where a provider's own may come."""
    enveloped: bool = True
    stream: "Stream | None" = None
    """What the answer is where a stream was asked for."""
    is_delivery: bool = False
    """Whether it is delivered as its headers wish, and says in its headers how it was."""
    is_operators: bool = False
    """It takes the master key."""
    without_key: bool = False
    """It takes none at all as well, from this machine itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Server-Sent Events, each with a `data:` line."""

    types: tuple[Any, ...]
    """Of the JSON in them."""
    description: str


class Described:
    """Collects the types of every route; gives each its operation, and the document its components."""

    def __init__(self) -> None:
        self._types: list[Any] = [FailureEnvelope]

    def operation(self, description: Description) -> type[Operation]:
        """Make the operation class that a route is declared with."""
        streamed = description.stream.types if description.stream is not None else ()
        named = (description.answer, description.body, description.query, *streamed)
        self._types += [kind for kind in named if kind is not None]

        @dataclass
        class DescribedOperation(Operation):
            def __post_init__(self) -> None:
                self.responses = _responses(description)
                if description.body is not None:
                    content = {JSON: OpenAPIMediaType(schema=_schema(description.body))}
                    self.request_body = RequestBody(content=content, required=True)
                if description.query is not None:
                    self.parameters = [*(self.parameters or ()), *_parameters(description.query)]
                if description.is_delivery:
                    self.parameters = [*(self.parameters or ()), *headers.wishes()]
                if description.is_operators:
                    self.security = [{MASTER_KEY: []}, {}] if description.without_key else [{MASTER_KEY: []}]

        return DescribedOperation

    def components(self) -> dict[str, Schema]:
        """The schemas that the operations refer to."""
        _, components = msgspec.json.schema_components(self._types, ref_template="#/components/schemas/{name}")
        return {name: RawSchema(raw=_numbers(schema)) for name, schema in components.items()}


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
    content = {JSON: OpenAPIMediaType(schema=answer)}
    if description.stream is not None:
        content[EVENT_STREAM] = OpenAPIMediaType(schema=_stream_schema(description.stream))
    said = headers.of_answer() if description.is_delivery else headers.every()
    responses: dict[str, OpenAPIResponse | Reference] = {
        str(description.status): OpenAPIResponse(description="Success", content=content, headers=said)
    }
    failure = _schema(FailureEnvelope) if description.enveloped else _schema(description.answer)
    for status in (*description.errors, 500):
        responses[str(status)] = OpenAPIResponse(
            description=_FAILURES[status],
            content={JSON: OpenAPIMediaType(schema=_schema(FailureEnvelope) if status == 500 else failure)},
            headers=headers.of_failure(status),
        )
    return responses


def _stream_schema(stream: Stream) -> RawSchema:
    """Of one event, as OpenAPI 3.2 has it for streams (`itemSchema`); 3.1 has no other place for it."""
    named = [_schema(kind).to_schema() for kind in stream.types]
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": {"anyOf": named}}
    return RawSchema(
        {
            "type": "object",
            "description": stream.description,
            "required": ["data"],
            "properties": {"data": {"anyOf": [data, {"const": "[DONE]"}]}},
        }
    )


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
    """Decimals travel as numbers here, not as msgspec's strings. Where they come in, a field may say more of itself."""
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            kept = {name: value for name, value in schema.items() if name != "format"}
            return kept | {"type": "number"} if kept["type"] == "string" else kept
        return {name: _numbers(value) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_numbers(value) for value in schema]
    return schema
