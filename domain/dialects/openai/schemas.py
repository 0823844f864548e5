"""JSON Schemas as OpenAI takes them: which may be strict, and what the parameters of a function must have.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from typing import Any

import msgspec

MAX_DEPTH = 32
"""A schema that is nested more deeply is not strict: OpenAI allows ten levels."""

_NEVER_STRICT = frozenset(
    {
        "allOf", "contains", "default", "dependentRequired", "dependentSchemas", "else", "if", "maxContains",
        "maxLength", "maxProperties", "minContains", "minLength", "minProperties", "not", "oneOf", "patternProperties",
        "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties", "uniqueItems",
    }
)  # fmt: skip
_STRICT_FORMATS = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"})
_SAYS_TYPE = ("type", "anyOf", "$ref", "enum", "const")
_NAMED_SCHEMAS = frozenset({"$defs", "definitions", "patternProperties", "properties"})
_LISTED_SCHEMAS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NESTED_SCHEMAS = frozenset({"additionalProperties", "items"})
_NOT_AT_THE_TOP = ("anyOf", "oneOf", "allOf", "not", "enum", "if", "then", "else")
"""OpenAI wants an object at the top of a function's parameters, and none of these beside it."""


def may_be_strict(schema: dict[str, Any]) -> bool:
    """Return True if OpenAI takes the schema as a strict one: every object closed, every member required."""
    return schema.get("type") == "object" and "anyOf" not in schema and _is_strict(schema, 0)


def _is_strict(schema: Any, depth: int) -> bool:
    if not isinstance(schema, dict) or depth > MAX_DEPTH or not _NEVER_STRICT.isdisjoint(schema):
        return False
    if not any(member in schema for member in _SAYS_TYPE):
        return False
    if ("$ref" in schema and len(schema.keys() - {"$defs", "definitions"}) > 1) or lacks_items(schema):
        return False
    if "format" in schema and str(schema["format"]) not in _STRICT_FORMATS:
        return False
    properties = schema.get("properties")
    if "object" in _types(schema) or properties is not None:
        if schema.get("additionalProperties") is not False or not isinstance(properties, dict):
            return False
        required = schema.get("required", [])
        if not isinstance(required, list) or set(map(str, required)) != set(properties):
            return False
    nested = [*(properties or {}).values(), *_listed(schema.get("anyOf")), *_listed(schema.get("prefixItems"))]
    if "items" in schema:
        nested.append(schema["items"])
    for definitions in (schema.get("$defs"), schema.get("definitions")):
        nested += definitions.values() if isinstance(definitions, dict) else ()
    return all(_is_strict(one, depth + 1) for one in nested)


def _types(schema: dict[str, Any]) -> list[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def lacks_items(schema: dict[str, Any]) -> bool:
    """Return True if it is an array that does not say of what: OpenAI refuses it, strict or not."""
    return "array" in _types(schema) and "items" not in schema and "prefixItems" not in schema


def with_items(schema: Any, depth: int = 0) -> Any:
    """The schema with arrays of anything where it has arrays of nothing; the same one if it has none."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return schema
    found = {
        name: {key: with_items(one, depth + 1) for key, one in value.items()}
        if name in _NAMED_SCHEMAS and isinstance(value, dict)
        else [with_items(one, depth + 1) for one in value]
        if name in _LISTED_SCHEMAS and isinstance(value, list)
        else with_items(value, depth + 1)
        if name in _NESTED_SCHEMAS
        else value
        for name, value in schema.items()
    }
    if lacks_items(schema):
        found["items"] = {}
    return found if found != schema else schema


def function_parameters(schema: dict[str, Any] | None) -> tuple[dict[str, Any], str | None]:
    """The schema of a function's parameters as OpenAI takes one, and what it cannot say, in words.

    Many tools of MCP servers have no parameters, and say so by an object without `properties`.
    """
    given = with_items(schema or {})
    above = {name: given[name] for name in _NOT_AT_THE_TOP if name in given}
    if not above and given.get("type") == "object" and isinstance(given.get("properties"), dict):
        return given, None
    found = {name: value for name, value in given.items() if name not in above}
    found = {"type": "object"} | found | {"type": "object"}
    if not isinstance(found.get("properties"), dict):
        found["properties"] = _properties(above)
    if not above:
        return found, None
    return found, f"The arguments also keep to this JSON Schema: {msgspec.json.encode(above).decode()}"


def _properties(above: dict[str, Any]) -> dict[str, Any]:
    """The properties of all the alternatives together."""
    found: dict[str, Any] = {}
    for name in ("allOf", "anyOf", "oneOf"):
        for one in _listed(above.get(name)):
            properties = one.get("properties") if isinstance(one, dict) else None
            found |= properties if isinstance(properties, dict) else {}
    return found
