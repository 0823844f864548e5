"""Makes an example value for a JSON schema, as a model with structured output would."""

from typing import Any

MAX_DEPTH = 5
"""Below this depth an example has only required members, because a schema may refer to itself."""

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


def example(schema: Any, sample: str) -> Any:
    """Return a value that `schema` allows, with `sample` in its plain strings. Ignores patterns."""
    return _value(schema, schema, sample, 0)


def _value(schema: Any, root: Any, sample: str, depth: int) -> Any:
    if not isinstance(schema, dict):
        return sample
    if "$ref" in schema:
        return _value(_referred(schema["$ref"], root), root, sample, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "allOf" in schema:
        return _value(_merged(schema, root), root, sample, depth)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _value(_chosen(schema[union], depth), root, sample, depth)
    return _typed(_type_of(schema, depth), schema, root, sample, depth)


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
    """Return the first variant that is not null; below `MAX_DEPTH`, null if the schema allows it."""
    nulls = [variant for variant in variants if variant == {"type": "null"}]
    others = [variant for variant in variants if variant not in nulls]
    return nulls[0] if nulls and (depth > MAX_DEPTH or not others) else others[0]


def _type_of(schema: dict[str, Any], depth: int) -> str:
    named = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(named, str):
        return named
    return "null" if "null" in named and depth > MAX_DEPTH else next((name for name in named if name != "null"), "null")


def _typed(kind: str, schema: dict[str, Any], root: Any, sample: str, depth: int) -> Any:
    match kind:
        case "object":
            return _object(schema, root, sample, depth)
        case "array":
            return _array(schema, root, sample, depth)
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema, sample)


def _object(schema: dict[str, Any], root: Any, sample: str, depth: int) -> dict[str, Any]:
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    kept = {name: part for name, part in properties.items() if depth < MAX_DEPTH or name in required}
    return {name: _value(part, root, sample, depth + 1) for name, part in kept.items()}


def _array(schema: dict[str, Any], root: Any, sample: str, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [_value(part, root, sample, depth + 1) for part in schema["prefixItems"]]
    least = schema.get("minItems", 0)
    count = least if depth >= MAX_DEPTH or schema.get("maxItems") == 0 else max(least, 1)
    return [_value(schema.get("items", {}), root, sample, depth + 1) for _ in range(count)]


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


def _string(schema: dict[str, Any], sample: str) -> str:
    if schema.get("format") in _BY_FORMAT:
        return _BY_FORMAT[schema["format"]]
    text = sample.ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]
