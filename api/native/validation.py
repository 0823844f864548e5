"""Strict reading of native requests: typed bodies, and only declared query parameters."""

from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.dto import AbstractDTO
from litestar.exceptions import ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition
from msgspec import Struct

from api.large_requests import LARGE_BYTES
from api.requests import HttpRequest, bytes_in_hand, services_of, single_values
from domain.decoding import decoded
from domain.errors import InvalidRequest

_DECODED_SCOPE = "gateway.decoded"


class StrictBody(AbstractDTO[Struct]):
    """Decodes a body straight into the struct of the handler's `data`. Litestar's own decoding takes `"3"` for a
    number, and its errors do not name the field.
    """

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Do nothing: there is no other type to generate."""

    @classmethod
    def is_supported_model_type_field(cls, field_definition: FieldDefinition) -> bool:  # noqa: ARG003
        """False: answers are encoded by `NativeResponse`."""
        return False

    @classmethod
    def create_openapi_schema(cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any) -> Any:  # noqa: ARG003
        """The schema of the struct itself."""
        return schema_creator.for_field_definition(field_definition)

    def decode_bytes(self, value: bytes) -> Any:
        """The struct; the one that `decode_large` has made, if it has.

        Raises:
            InvalidRequest, BodyTooLarge: as `decoded`.

        """
        connection: ASGIConnection[Any, Any, Any, Any] = self.asgi_connection
        made = connection.scope.pop(_DECODED_SCOPE, None)  # type: ignore[misc]  # ours, as the id
        return made if made is not None else _decoded_for(connection.route_handler, value)


async def decode_large(request: HttpRequest, handler: BaseRouteHandler, body: bytes) -> None:
    """Decode a large body for a handler in a thread, in its project's turn: Litestar would do it in the event loop.

    Raises:
        InvalidRequest, BodyTooLarge: as `decoded`.

    """
    if len(body) >= LARGE_BYTES:
        owner = bytes_in_hand(request).owner
        made = await services_of(request).large_requests.run(owner, len(body), _decoded_for, handler, body)
        request.scope[_DECODED_SCOPE] = made  # type: ignore[literal-required]  # ours, as the id


def _decoded_for(handler: BaseRouteHandler, body: bytes) -> Any:
    field = handler.parsed_data_field
    assert field is not None, "the handler takes a body"
    return decoded(body, msgspec.json.Decoder(field.annotation))


def declared_query(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse a query parameter that the call does not declare, or that is given twice. Litestar ignores both.

    Raises:
        InvalidRequest: names the parameter.

    """
    declared = _public_names(handler).values()
    for name in single_values(connection.query_params):
        if name not in declared:
            raise InvalidRequest(f"`{name}`: there is no such parameter", field=name)


def invalid_parameter(handler: BaseRouteHandler, error: ValidationException) -> InvalidRequest:
    """The error for a parameter that Litestar could not convert."""
    (first, *_) = error.extra or [{}]
    assert isinstance(first, dict), "Litestar's error messages"
    field, message = str(first.get("key", "")), first.get("message", error.detail)
    name = _public_names(handler).get(field, field)
    return InvalidRequest(f"`{name}`: {message}" if name else message, field=name or None)


def _public_names(handler: BaseRouteHandler) -> dict[str, str]:
    """The query parameters that a handler's dependencies declare: their fields, and their names in the query."""
    return {
        field: definition.kwarg_definition.name or field
        for provider in handler.resolve_dependencies().values()
        for field, definition in provider.parsed_fn_signature.parameters.items()
        if isinstance(definition.kwarg_definition, QueryParameter)
    }
