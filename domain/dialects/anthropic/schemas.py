"""JSON Schemas as Anthropic takes them: for a structured answer, and for the input of a tool.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs. What the decoder cannot hold a model to
(bounds, lengths, patterns …) moves into the descriptions, as Anthropic's own SDK does (`anthropic.transform_schema`).
The members of objects keep their order, since models answer in it.
"""

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

MAX_OPTIONAL_MEMBERS = 24
"""Optional members that one schema may have, with those of its definitions."""
MAX_DEPTH = 64

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_UNIONS = ("anyOf", "oneOf", "allOf")
_NAMED = frozenset({"properties", "$defs", "definitions"})
_DATA = frozenset({"enum", "const", "default", "examples", "required", "type"})
_LISTS_OF_NAMES = frozenset({"required", "type"})
_KINDS: dict[str, Any] = {
    **dict.fromkeys(_NAMED, Mapping),
    **dict.fromkeys((*_UNIONS, "required", "enum"), list),
    **dict.fromkeys(("$ref", "format", "description", "title"), str),
    "type": (str, list),
}
"""Members of a schema, and what they are."""


class NotExpressible(Exception):
    """The schema asks for what Anthropic's structured outputs have no way to say."""


def answer_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema for `output_config.format`, or for a tool that is `strict`.

    Raises:
        NotExpressible: it is none; it refers to itself, or elsewhere; it has an object of any members, which would come
            out empty; a part of it may be anything; it has too many optional members.

    """
    _check_members(schema)
    definitions = _definitions(schema)
    if _is_circular(definitions):
        raise NotExpressible("it refers to itself")
    transformed = _transform(schema, 0)
    if _optional_members(transformed) > MAX_OPTIONAL_MEMBERS:
        raise NotExpressible("it has too many optional members")
    return transformed


def input_schema(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The schema of a tool's input: an object with `properties`, and no union at its top, which Anthropic refuses."""
    schema = dict(parameters or {})
    if "$ref" in schema:
        schema = _resolved(schema, schema) | {name: value for name, value in schema.items() if name != "$ref"}
    notes: list[str] = []
    for union in _UNIONS:
        variants = schema.pop(union, None)
        if isinstance(variants, list):
            schema, note = _with_variants(schema, union, [_resolved(one, schema) for one in variants])
            notes += [note] if note else []
    schema["type"] = "object"
    if not isinstance(schema.get("properties"), dict):
        schema["properties"] = {}
    if notes:
        schema["description"] = "\n\n".join(filter(None, (schema.get("description"), *notes)))
    return {"type": "object", **schema}


def may_be_strict(schema: Any, depth: int = 0) -> bool:
    """True if every object of the schema names all its members and requires them: OpenAI's strict mode wants that."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(schema, list):
        return all(may_be_strict(entry, depth + 1) for entry in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        members, required = schema.get("properties") or {}, schema.get("required") or []
        if not isinstance(members, dict) or not isinstance(required, list):
            return False
        if schema.get("additionalProperties") is not False or set(map(str, required)) < set(members):
            return False
        members_may_be = all(may_be_strict(member, depth + 1) for member in members.values())
        return members_may_be and _others_may_be_strict(schema, depth)
    return _others_may_be_strict(schema, depth)


def _others_may_be_strict(schema: dict[str, Any], depth: int) -> bool:
    own = {"properties", "enum", "const", "default", "examples", "required"}
    by_name = {"$defs", "definitions"}
    return all(
        may_be_strict(list(value.values()) if name in by_name and isinstance(value, dict) else value, depth + 1)
        for name, value in schema.items()
        if name not in own
    )


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"#/{place}/{name}": one
        for place in ("$defs", "definitions")
        for name, one in (schema.get(place) or {}).items()
    } | {"#": {name: value for name, value in schema.items() if name not in ("$defs", "definitions")}}


def _references(schema: Any) -> Iterator[str]:
    left = [schema]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if isinstance(one.get("$ref"), str):
                yield one["$ref"]
            left += one.values()
        elif isinstance(one, list):
            left += one


def _check_members(schema: Any) -> None:
    """Look at every part of a schema.

    Raises:
        NotExpressible: a member is not of the kind that JSON Schema has it of.

    """
    left = [schema]
    while left:
        one = left.pop()
        if not isinstance(one, Mapping):
            continue
        for name, value in one.items():
            kind = _KINDS.get(name)
            if kind is not None and value is not None and not isinstance(value, kind):
                raise NotExpressible(f"its `{name}` is none")
            if (
                name in _LISTS_OF_NAMES
                and isinstance(value, list)
                and not all(isinstance(entry, str) for entry in value)
            ):
                raise NotExpressible(f"its `{name}` has what is no name")
            if name in _NAMED:
                left += (value or {}).values()
            elif name not in _DATA:
                left += value if isinstance(value, list) else [value]


def _is_circular(definitions: Mapping[str, Any]) -> bool:
    """True if following references never ends."""
    references = {name: set(_references(one)) for name, one in definitions.items()}
    for found in references.values():
        if not found <= references.keys():
            raise NotExpressible("it refers to another document")
    try:
        TopologicalSorter(references).prepare()
    except CycleError:
        return True
    return False


def _transform(schema: Any, depth: int) -> dict[str, Any]:
    """As `anthropic.transform_schema`, which this keeps to, but for what that function refuses or loses."""
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        raise NotExpressible("a part of it may be anything")
    rest = dict(schema)
    out: dict[str, Any] = {}
    definitions = {**(rest.pop("definitions", None) or {}), **(rest.pop("$defs", None) or {})}
    if definitions:
        out["$defs"] = {name: _transform(one, depth + 1) for name, one in definitions.items()}
    reference = rest.pop("$ref", None)
    if reference is not None:
        out["$ref"] = reference.replace("#/definitions/", "#/$defs/")
        return out
    rest.pop("$schema", None)
    kind = _shape(rest, out, depth)
    for name in ("description", "title"):
        value = rest.pop(name, None)
        if value is not None:
            out[name] = value
    _keywords(kind, rest, out, depth)
    if rest:
        said = "{" + ", ".join(f"{name}: {value}" for name, value in rest.items()) + "}"
        out["description"] = f"{out['description']}\n\n{said}" if out.get("description") is not None else said
    return out


def _keywords(kind: str | None, rest: dict[str, Any], out: dict[str, Any], depth: int) -> None:
    """Take the keywords of a type that Anthropic's decoder knows out of `rest`."""
    match kind:
        case "object":
            _object(rest, out, depth)
        case "string":
            if rest.get("format") in _FORMATS:
                out["format"] = rest.pop("format")
        case "array":
            if rest.get("items") is not None:
                out["items"] = _transform(rest.pop("items"), depth + 1)
            if rest.get("minItems") in (0, 1):
                out["minItems"] = rest.pop("minItems")
        case _:
            pass


def _shape(rest: dict[str, Any], out: dict[str, Any], depth: int) -> str | None:
    """Take the type, the literals and the union out of `rest`; returns the type whose keywords are still to be read."""
    kind = rest.pop("type", None)
    unions = {name: found for name in _UNIONS if isinstance(found := rest.pop(name, None), list)}
    enum = rest.get("enum")
    if isinstance(enum, list) and enum and all(_is_primitive(value) for value in enum):
        out["enum"] = list(rest.pop("enum"))
    if "const" in rest and _is_primitive(rest["const"]):
        out["const"] = rest.pop("const")
    if "enum" in out or "const" in out:
        kind = None
    for name, variants in unions.items():
        out[_spoken_union(name, variants)] = [_transform(one, depth + 1) for one in variants]
        return kind if isinstance(kind, str) else None
    if "enum" in out or "const" in out:
        return None
    if isinstance(kind, list) and kind:
        members = {name: rest.pop(name) for name in list(rest) if name not in ("title", "description")}
        out["anyOf"] = [
            _transform({"type": one, **(members if one != "null" else {})}, depth + 1) for one in dict.fromkeys(kind)
        ]
        return None
    if kind is None and isinstance(rest.get("properties"), dict):
        kind = "object"
    if not isinstance(kind, str) or kind not in _TYPES:
        raise NotExpressible("a part of it may be anything")
    out["type"] = kind
    return kind


def _spoken_union(name: str, variants: list[Any]) -> str:
    """The word for a union: Anthropic knows no `oneOf`, and no `allOf` of references."""
    if name != "allOf" or not any(isinstance(one, Mapping) and "$ref" in one for one in variants):
        return "allOf" if name == "allOf" else "anyOf"
    if len(variants) > 1:
        raise NotExpressible("it joins definitions by `allOf`")
    return "anyOf"


def _object(rest: dict[str, Any], out: dict[str, Any], depth: int) -> None:
    members = rest.pop("properties", None) or {}
    others = rest.pop("additionalProperties", None)
    if others not in (None, False) or (not members and others is not False):
        raise NotExpressible("it has an object of any members")
    out["properties"] = {name: _transform(member, depth + 1) for name, member in members.items()}
    out["additionalProperties"] = False
    required = rest.pop("required", None)
    if required is not None:
        out["required"] = list(required)


def _optional_members(schema: Any) -> int:
    if isinstance(schema, list):
        return sum(_optional_members(entry) for entry in schema)
    if not isinstance(schema, dict):
        return 0
    members = schema.get("properties")
    optional = len(members.keys() - set(schema.get("required") or ())) if isinstance(members, dict) else 0
    return optional + sum(_optional_members(value) for value in schema.values())


def _resolved(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """A schema, or the one in `root` that it refers to."""
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    if not isinstance(reference, str):
        return dict(schema) if isinstance(schema, Mapping) else {}
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _with_variants(schema: dict[str, Any], union: str, variants: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """The schema with every member that a variant has, and a note of what the union said beyond that."""
    own = schema.get("properties")
    members: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
    required = list(schema.get("required") or ())
    needs = [[name for name in one.get("required") or () if isinstance(name, str)] for one in variants]
    for one in variants:
        found = one.get("properties")
        for name, member in found.items() if isinstance(found, dict) else ():
            members.setdefault(name, member)
    everywhere = [name for name in (needs[0] if needs else ()) if all(name in need for need in needs)]
    always = [name for need in needs for name in need] if union == "allOf" else everywhere
    schema["properties"] = members
    if always or required:
        schema["required"] = list(dict.fromkeys((*required, *always)))
    sets = ["{" + ", ".join(need) + "}" for need in needs if need]
    if union == "allOf" or len(set(sets)) <= 1:
        return schema, ""
    many = "exactly one" if union == "oneOf" else "at least one"
    return schema, f"Give {many} of these sets of members: {', '.join(dict.fromkeys(sets))}."


def _is_primitive(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
