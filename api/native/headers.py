"""The headers of the native surface, as OpenAPI describes them. What they mean is done elsewhere."""

from typing import Any

from litestar.openapi.spec import OpenAPIHeader, OpenAPIMediaType, Parameter, Reference, Schema

from api.delivery import JSON
from api.requests import (
    MAX_CACHE_TTL_S,
    MAX_METADATA_BYTES,
    MAX_METADATA_MEMBERS,
    MAX_METADATA_NAME_CHARS,
    MIN_CACHE_TTL_S,
)
from domain.names import NAME_PATTERN

_METADATA_NAME = {"minLength": 1, "maxLength": MAX_METADATA_NAME_CHARS, "pattern": NAME_PATTERN}


class RawSchema(Schema):
    """A schema that is written already."""

    def __init__(self, raw: dict[str, Any]) -> None:
        super().__init__()
        self.raw = raw

    def to_schema(self) -> dict[str, Any]:
        """Give it as it is."""
        return self.raw


def options() -> list[Parameter | Reference]:
    """Headers by which a request sets its delivery, on every surface."""
    ttl = {"type": "integer", "minimum": MIN_CACHE_TTL_S, "maximum": MAX_CACHE_TTL_S}
    metadata = {"type": "object", "maxProperties": MAX_METADATA_MEMBERS, "propertyNames": _METADATA_NAME}
    return [
        Parameter(
            name="x-gateway-cache",
            param_in="header",
            schema=RawSchema({"type": "string", "enum": ["on", "off", "refresh"]}),
            description="Before `cache`. `refresh`: a fresh answer, kept for others.",
        ),
        Parameter(
            name="x-gateway-cache-ttl",
            param_in="header",
            schema=RawSchema(ttl),
            description="Seconds; before `cacheTtl`.",
        ),
        Parameter(
            name="x-gateway-metadata",
            param_in="header",
            content={JSON: OpenAPIMediaType(schema=RawSchema(metadata))},
            description=f"Joins `metadata`. At most {MAX_METADATA_BYTES} bytes.",
        ),
        Parameter(
            name="x-gateway-fallbacks",
            param_in="header",
            schema=RawSchema({"type": "string"}),
            description="Models that are tried if `model` fails, with commas between them. Before `fallbacks`.",
        ),
    ]


def of_answer() -> dict[str, OpenAPIHeader | Reference]:
    """Headers of every provider's answer."""
    return {
        **of_response(),
        "x-gateway-cache": _text(
            "HIT, MISS, or BYPASS where it was neither looked up nor kept", "HIT", "MISS", "BYPASS"
        ),
        "x-gateway-provider": _text("Who answered"),
        "x-gateway-model": _text("The name that the provider was called with"),
        "x-gateway-attempts": _text("The number of the attempt that was answered; absent for an answer from the cache"),
        "x-gateway-cost-usd": _text("What it cost, in US dollars; absent for a stream, and if the model has no price"),
        "x-gateway-cost-is-lower-bound": _text("`true`: something was used that has no known price", "true"),
        "x-gateway-max-tool-calls": _text("The limit that the budget set to the calls of hosted tools"),
        "x-gateway-max-tokens": _text("The output cap, where the budget had room for no more"),
        "x-gateway-warning": _text("Why the cost is not known"),
        **_limits(),
    }


def of_failure(status: str) -> dict[str, OpenAPIHeader | Reference]:
    """Headers of a failure."""
    headers = {
        **of_response(),
        "x-gateway-attempts": _text("The number of the last attempt, where one was made"),
        "x-gateway-provider": _text("Whom that attempt went to"),
        "x-gateway-model": _text("The name that this provider was called with"),
    }
    if status in ("402", "429", "503"):
        return {**headers, "retry-after": _text("Seconds after which the same may succeed"), **_limits()}
    return headers


def of_response() -> dict[str, OpenAPIHeader | Reference]:
    """Headers of every response."""
    return {
        "x-request-id": _text("The request's id, as in the log", required=True),
        "x-gateway-log-position": _text(
            "A position of the log and the digest of all up to it: who keeps it can prove that the log was changed"
        ),
    }


def _limits() -> dict[str, OpenAPIHeader | Reference]:
    shown: dict[str, OpenAPIHeader | Reference] = {}
    for name in ("requests", "tokens"):
        shown[f"x-ratelimit-limit-{name}"] = _text(f"How many {name} a minute the key may have, where that is limited")
        shown[f"x-ratelimit-remaining-{name}"] = _text("How many of them are left")
        shown[f"x-ratelimit-reset-{name}"] = _text("When all are there again: a duration such as `12ms` or `6m0s`")
    shown["x-gateway-budget-remaining-usd"] = _text("What the narrowest budget has left, in US dollars")
    return shown


def _text(description: str, *values: str, required: bool = False) -> OpenAPIHeader:
    schema: dict[str, Any] = {"type": "string"} | ({"enum": list(values)} if values else {})
    return OpenAPIHeader(schema=RawSchema(schema), description=description, required=required)
