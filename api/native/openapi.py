"""The OpenAPI document. Litestar makes the operations from the handlers' signatures; here are the parts that it cannot
make: msgspec's own schemas, and the failures and headers that all operations have in common.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import (
    Components,
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.params import QueryParameter
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec import Meta, Struct

from api.delivery import EVENT_STREAM, JSON
from api.native import headers
from api.native.envelope import FailureEnvelope, Success
from api.native.headers import RawSchema

NATIVE_PATH = "/api/v1"
API_KEY, MASTER_KEY = "apiKey", "masterKey"
"""The security schemes."""
NEEDS_MASTER_KEY = [{MASTER_KEY: list[str]()}]
KEY_OR_MASTER_KEY = [{API_KEY: list[str]()}, *NEEDS_MASTER_KEY]

_TAGS = {
    "completions": "Ask a model",
    "jobs": "Requests that are answered later, one by one or as a batch",
    "models": "The models that a request may name",
    "api-keys": "A project's keys: what each may do, and its limits",
    "providers": "Where requests go, with the credentials for it",
    "routes": "Names that stand for several models",
    "projects": "Projects and their settings",
    "usage": "What was used and what it cost",
    "requests": "Every request, with the way that it went",
    "prices": "What models cost",
    "audit": "The log, and proofs that it is whole",
    "health": "Whether the gateway works",
}
"""The groups of operations, by a part of their paths. Of several that a path has, the first of these is its group."""
_FAILURES: dict[str, str] = {
    "400": "A field, or the JSON, is wrong",
    "401": "No key, or none that works",
    "402": "A budget does not cover it",
    "403": "The key may not do this",
    "404": "There is no such thing here, or no such model",
    "413": "The body is too large",
    "429": "A limit of the key's, or of the provider's",
    "4XX": "The provider refuses the request: its own status",
    "500": "Something went wrong here; the log says what",
    "502": "The provider is down, or refuses the key that it was called with",
    "503": "The queue is full, or the database or the broker is away",
    "504": "The provider did not answer in time",
}
_NATIVE_FAILURES = (400, 401, 403, 404, 413, 500, 503)
"""Statuses of every native operation."""
_COMPLETION_FAILURES = (402, 429, "4XX", 502, 504)
"""Further statuses of an operation that a provider answers; `4XX`: the provider's own status."""
_REFERENCE = "#/components/schemas/{name}"
_FAILURE = "Failure{status}"


class MsgspecSchemas(OpenAPISchemaPlugin):
    """Describes structs and whole numbers with msgspec's schemas, because msgspec decodes and encodes them.
    Litestar's own would lack what `extra_json_schema` says, and round the bounds of numbers to floats.
    """

    def __init__(self, *types: Any) -> None:
        """`types` are described beside those of the handlers' signatures."""
        self._types = [FailureEnvelope, *types]

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """True for types that this plugin describes."""
        return field_definition.is_subclass_of(Struct) or _is_whole_number(field_definition)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:  # noqa: ARG002
        """The schema; of a struct it is a reference to a component."""
        kind = field_definition.annotation
        if _is_whole_number(field_definition):
            return _number_schema(field_definition)
        if not field_definition.is_subclass_of(Success):
            self._types.append(kind)
            return _schema(kind)
        (data,) = field_definition.args
        self._types.append(data)
        return _success(_schema(data))

    def components(self) -> dict[str, Schema]:
        """The schemas that the operations refer to."""
        _, components = msgspec.json.schema_components(self._types, ref_template=_REFERENCE)
        return {name: RawSchema(_numbers(schema)) for name, schema in components.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Server-Sent Events, each with a `data:` line."""

    types: tuple[Any, ...]
    """The types of the JSON in the events."""
    description: str


def completion_operation(body: type[Struct], answer: type[Struct], stream: Stream | None = None) -> type[Operation]:
    """The operation of a call that a provider answers. Its handler takes the raw request, so its signature does not
    have the types; `MsgspecSchemas` needs them as well.
    """

    @dataclass
    class CompletionOperation(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(content={JSON: OpenAPIMediaType(schema=_schema(body))}, required=True)
            self.parameters = [*(self.parameters or ()), *headers.options()]
            content = {JSON: OpenAPIMediaType(schema=_success(_schema(answer)))}
            if stream is not None:
                content[EVENT_STREAM] = OpenAPIMediaType(schema=_stream_schema(stream))
            succeeded = OpenAPIResponse(description="", content=content, headers=headers.of_answer())
            self.responses = {"200": succeeded, **{str(status): _failure(status) for status in _COMPLETION_FAILURES}}

    return CompletionOperation


def one_of(*kinds: type[Struct]) -> RawSchema:
    """The schema of a body that is of one of these types."""
    return RawSchema({"anyOf": [_schema(kind).to_schema() for kind in kinds]})


@dataclass(kw_only=True)
class NativeDocuments(OpenAPIConfig):
    """Litestar's configuration, for a document that `schemas` complete once it is written."""

    schemas: MsgspecSchemas

    def to_openapi_schema(self) -> OpenAPI:
        """Return the document, before Litestar adds the operations."""
        return _NativeDocument(super().to_openapi_schema(), self.schemas)


class _NativeDocument(OpenAPI):
    """The document. Making it takes half of an application's start, and few processes are asked for it."""

    def __init__(self, document: OpenAPI, schemas: MsgspecSchemas) -> None:
        super().__init__(**{field.name: getattr(document, field.name) for field in fields(document)})
        self._schemas = schemas

    def to_schema(self) -> dict[str, Any]:
        """Complete the document, and return it as it is written. Litestar keeps what this returns."""
        _complete(self, self._schemas)
        return super().to_schema()


def _complete(document: OpenAPI, schemas: MsgspecSchemas) -> None:
    """Add the groups, the failures, the headers and the components."""
    failures: dict[str, OpenAPIResponse | Reference] = {}
    for path, operation in _operations(document):
        operation.tags = [next(tag for tag in _TAGS if tag in path.split("/"))]
        responses = operation.responses = operation.responses or {}
        for status in _NATIVE_FAILURES if path.startswith(NATIVE_PATH) else (500,):
            responses[str(status)] = _failure(status)
        for status_text, response in responses.items():
            if isinstance(response, Reference):
                failures[status_text] = _described_failure(status_text)
            elif not status_text.startswith("2"):
                response.headers = headers.of_failure(status_text)
            else:
                response.description = "Success"
                response.headers = {**headers.of_response(), **(response.headers or {})}
    document.tags = [Tag(name=name, description=what) for name, what in _TAGS.items()]
    document.components = Components(
        schemas=dict(schemas.components()),
        responses={_FAILURE.format(status=status): response for status, response in failures.items()},
        security_schemes={
            API_KEY: SecurityScheme(type="http", scheme="bearer", description="A key of a project's"),
            MASTER_KEY: SecurityScheme(
                type="http",
                scheme="bearer",
                description="The operator's: GATEWAY_MASTER_KEY, or the one that `gateway up` made",
            ),
        },
    )


def _operations(document: OpenAPI) -> Iterator[tuple[str, Operation]]:
    for path, item in (document.paths or {}).items():
        for operation in (item.get, item.post, item.patch, item.delete):
            if operation is not None:
                yield path, operation


def _failure(status: int | str) -> Reference:
    """Refer to a failure, which is written once for all operations."""
    return Reference(ref=f"#/components/responses/{_FAILURE.format(status=status)}")


def _described_failure(status: str) -> OpenAPIResponse:
    return OpenAPIResponse(
        description=_FAILURES[status],
        content={JSON: OpenAPIMediaType(schema=_schema(FailureEnvelope))},
        headers=headers.of_failure(status),
    )


def _success(data: RawSchema) -> RawSchema:
    return RawSchema(
        {
            "type": "object",
            "required": ["success", "data"],
            "properties": {"success": {"const": True}, "data": data.to_schema()},
        }
    )


def _is_whole_number(field: FieldDefinition) -> bool:
    return field.annotation is int and isinstance(field.kwarg_definition, QueryParameter)


def _number_schema(field: FieldDefinition) -> RawSchema:
    parameter = field.kwarg_definition
    assert isinstance(parameter, QueryParameter), "checked by the caller"
    schema = _schema(Annotated[int, Meta(ge=parameter.ge, le=parameter.le)])
    return RawSchema(schema.to_schema() | {"default": field.default})


def _stream_schema(stream: Stream) -> RawSchema:
    """The schema of one event. OpenAPI 3.2 has `itemSchema` for it; in 3.1 it stands for the whole body."""
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
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REFERENCE)
    return RawSchema(_numbers(schema))


def _numbers(schema: Any) -> Any:
    """Decimals are JSON numbers here, not text as in msgspec's schema. A field that comes in may also allow text."""
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            kept = {name: value for name, value in schema.items() if name != "format"}
            return kept | {"type": "number"} if kept["type"] == "string" else kept
        return {name: _numbers(value) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_numbers(value) for value in schema]
    return schema
