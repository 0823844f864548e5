"""How the native surface reads what callers send: bodies strictly, and no query parameter that a call does not have."""

from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.dto import AbstractDTO
from litestar.exceptions import ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard
from litestar.typing import FieldDefinition
from msgspec import Struct

from api.requests import single_values
from domain.decoding import decoded
from domain.errors import InvalidRequest


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
        """The struct.

        Raises:
            InvalidRequest, BodyTooLarge: as `decoded`.

        """
        field = self.asgi_connection.route_handler.parsed_data_field
        return decoded(value, msgspec.json.Decoder(field.annotation))


def query_parameters(*names: str) -> Guard:
    """Refuse every other query parameter, and any that is given twice. Litestar ignores both."""

    def check(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        for name in single_values(connection.query_params):
            if name not in names:
                raise InvalidRequest(f"`{name}`: there is no such parameter", field=name)

    return check


def invalid_parameter(error: ValidationException) -> InvalidRequest:
    """What Litestar found wrong with a parameter."""
    (first, *_) = error.extra or [{"key": "", "message": error.detail}]
    assert isinstance(first, dict), "Litestar's error messages"
    name, *others = str(first.get("key", "")).split("_")
    field = name + "".join(part.capitalize() for part in others)
    return InvalidRequest(f"`{field}`: {first['message']}" if field else first["message"], field=field or None)
