"""Finds where a passed-through request names models beside its `model`, for keys that may use some models only.

Where a model's name may stand is told by the place, not by a list of fields:

- a member, at any depth, whose name has one of the words by which APIs say which model or whose answers (`models`,
  `fallbacks`, `backup_model`, `providerOptions`, `plugins`, `route` …);
- a field that the vendor's API does not have, if it holds a text or an object: it may mean anything elsewhere;
- a tool that the provider runs and that is none of those known here: it may have a model of its own, as drawing has;
- a prompt that is stored at the provider, which brings its own settings.

What the model is shown, and the caller's own data (a schema, the arguments of a call, metadata), names none.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from domain.dialects.passthrough.fields import SHAPING_FIELDS, TOOL_FIELDS
from domain.dialects.passthrough.hosted import is_known_tool

MAX_CACHED_NAMES = 4_096
MAX_CACHED_CHARS = 64
"""Longer names of members are not remembered: callers choose them."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NAMES_MODELS = re.compile(
    r"model|fallback|plugin|provider|deployment|preset|(?<![a-z])rout(e|er|ing)s?(?![a-z])", re.IGNORECASE
)
_NAMELESS = frozenset({"fallback_credit_token"})
"""Members that are written so and name no model: a voucher for a request that was refused."""
_SETTINGS = frozenset({"model", "max_tokens", "output_config", "speed", "thinking"})
"""The members of an object that names one model, as in Anthropic's `fallbacks`, with settings for it."""
_DATA = _words(
    "parameters input_schema schema input_examples metadata arguments attributes headers logit_bias variables"
)
"""Members that are the caller's own data, wherever they stand."""
_DEFINITIONS = frozenset({*TOOL_FIELDS, "definition"})
_RECORD = frozenset({"type", "from", "to", "trigger"})
"""The members of a part that says which model wrote what follows (`fallback`): a record, which asks for nothing."""
_OF_OTHER_SELLERS = _words(
    "cache_control citation_options client_metadata documents prompt_cache_key reasoning safety_settings "
    "search_domain_filter search_mode search_parameters search_recency_filter session_id thinking transforms usage "
    "user_id"
)
"""Fields of other sellers that are known and name no model. Beside them, whatever is a number or a yes or no is let
through.
"""


class NamedModel(Struct, frozen=True):
    """A place in a request where a model is named, or may be."""

    field: str
    """Its path, for a refusal."""
    name: str | None
    """The model as its provider knows it; None: which models are meant cannot be told."""


def named_models(fields: Mapping[str, Any], known_fields: Collection[str]) -> list[NamedModel]:
    """Return every place beside `model` where the request names a model, or may.

    `known_fields`: those that the vendor documents. Takes about as long as reading the request.
    """
    found: list[NamedModel] = []
    for name, value in fields.items():
        if name == "model":
            continue
        if name == "prompt" and isinstance(value, dict):
            found.append(NamedModel(name, None))
        elif name in known_fields or name in _OF_OTHER_SELLERS or name in SHAPING_FIELDS or _says_model(name):
            found += _in_member(name, value, name)
        elif _may_name(value):
            found.append(NamedModel(name, None))
    return found


def _in_member(name: str, value: Any, path: str) -> Iterator[NamedModel]:
    if name in _DATA:
        return
    if _says_model(name):
        yield from _named_by(value, path)
    elif name in _DEFINITIONS:
        yield from _in_tools(value if isinstance(value, list) else [value], path, is_list=isinstance(value, list))
    else:
        yield from _in_value(value, path)


def _in_value(value: Any, path: str) -> Iterator[NamedModel]:
    if isinstance(value, dict):
        kind = value.get("type")
        if kind == "fallback" and value.keys() <= _RECORD:
            return
        is_call = isinstance(kind, str) and kind.endswith("tool_use")
        for name, member in value.items():
            if (isinstance(member, dict | list) and not (is_call and name == "input")) or _says_model(name):
                yield from _in_member(name, member, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict | list):
                yield from _in_value(item, f"{path}[{index}]")


def _in_tools(tools: list[Any], path: str, *, is_list: bool) -> Iterator[NamedModel]:
    for index, tool in enumerate(tools):
        place = f"{path}[{index}]" if is_list else path
        yield from _in_value(tool, place)
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind is not None and not is_known_tool(str(kind), tool) and not isinstance(tool.get("model"), str):
            yield NamedModel(f"{place} ({kind})", None)


def _named_by(value: Any, path: str) -> Iterator[NamedModel]:
    """The models in the value of a member that says that it names some."""
    if isinstance(value, str):
        if value:
            yield NamedModel(path, value)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _named_by(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        model = value.get("model")
        if isinstance(model, str) and value.keys() <= _SETTINGS:
            yield NamedModel(f"{path}.model", model)
        elif value:
            yield NamedModel(path, None)
    elif value is True:
        yield NamedModel(path, None)


def _may_name(value: Any) -> bool:
    """True if a model's name can be in it: a text, or an object, whose members' names are texts as well."""
    if isinstance(value, list):
        return any(map(_may_name, value))
    return isinstance(value, str | dict) and bool(value)


def _says_model(name: str) -> bool:
    return _remembered(name) if len(name) <= MAX_CACHED_CHARS else _matches(name)


def _matches(name: str) -> bool:
    return name not in _NAMELESS and _NAMES_MODELS.search(name) is not None


_remembered = lru_cache(maxsize=MAX_CACHED_NAMES)(_matches)
