"""An example of what a JSON schema allows, as a model that keeps to its schema would answer."""

from typing import Any

MAX_DEPTH = 5
"""Below it, only what the schema requires is given: schemas may refer to themselves."""

_BY_FORMAT = {
    "date-time": "2026-11-23T12:00:00Z",
    "date": "2026-11-23",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example(schema: Any, said: str) -> Any:
    """A value that `schema` allows, with `said` in its plain strings. Patterns are not looked at."""
    return _value(schema, schema, said, 0)


def _value(schema: Any, root: Any, said: str, depth: int) -> Any:
    if not isinstance(schema, dict):
        return said
    if "$ref" in schema:
        return _value(_referred(schema["$ref"], root), root, said, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "allOf" in schema:
        return _value(_merged(schema, root), root, said, depth)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _value(_chosen(schema[union], depth), root, said, depth)
    return _typed(_type_of(schema, depth), schema, root, said, depth)


def _referred(reference: str, root: Any) -> Any:
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


def _merged(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    merged = {name: value for name, value in schema.items() if name != "allOf"}
    for part in schema["allOf"]:
        whole = _referred(part["$ref"], root) if "$ref" in part else part
        properties = merged.get("properties", {}) | whole.get("properties", {})
        required = [*merged.get("required", ()), *whole.get("required", ())]
        merged |= whole
        merged |= {"properties": properties, "required": required} if properties else {}
    return merged


def _chosen(variants: list[Any], depth: int) -> Any:
    """The first that says something; deep down the one that says least."""
    nulls = [variant for variant in variants if variant == {"type": "null"}]
    others = [variant for variant in variants if variant not in nulls]
    return nulls[0] if nulls and (depth > MAX_DEPTH or not others) else others[0]


def _type_of(schema: dict[str, Any], depth: int) -> str:
    named = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(named, str):
        return named
    return "null" if "null" in named and depth > MAX_DEPTH else next((name for name in named if name != "null"), "null")


def _typed(kind: str, schema: dict[str, Any], root: Any, said: str, depth: int) -> Any:
    match kind:
        case "object":
            return _object(schema, root, said, depth)
        case "array":
            return _array(schema, root, said, depth)
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema, said)


def _object(schema: dict[str, Any], root: Any, said: str, depth: int) -> dict[str, Any]:
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    kept = {name: part for name, part in properties.items() if depth < MAX_DEPTH or name in required}
    return {name: _value(part, root, said, depth + 1) for name, part in kept.items()}


def _array(schema: dict[str, Any], root: Any, said: str, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [_value(part, root, said, depth + 1) for part in schema["prefixItems"]]
    least = schema.get("minItems", 0)
    count = least if depth >= MAX_DEPTH or schema.get("maxItems") == 0 else max(least, 1)
    return [_value(schema.get("items", {}), root, said, depth + 1) for _ in range(count)]


def _number(schema: dict[str, Any]) -> Any:
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if least is not None:
        number = -(-least // step) * step
        return number + step if number == schema.get("exclusiveMinimum") else number
    if most is not None and most <= step:
        number = most // step * step
        return number - step if number == schema.get("exclusiveMaximum") else number
    return step


def _string(schema: dict[str, Any], said: str) -> str:
    if schema.get("format") in _BY_FORMAT:
        return _BY_FORMAT[schema["format"]]
    text = said.ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]
