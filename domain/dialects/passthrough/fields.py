"""The fields of a passed-through request that are read, and refusal of names that others may read as one of them.

Does not know what a field means: `domain/dialects/passthrough/inspect.py` does.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from domain.dialects.passthrough.json_members import member_spans
from domain.errors import InvalidRequest

OUTPUT_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
EXTERNAL_CONTEXT_FIELDS = ("previous_response_id", "conversation", "prompt", "container")
"""Fields that name context which lies with the provider."""
EXTRA_COST_FIELDS = (
    "web_search_options",
    "mcp_servers",
    "compaction",
    "prediction",
    "plugins",
    "models",
    "provider",
    "route",
    "search_parameters",
    "enable_search",
)
"""Fields by which something is run, or asked, that has a price of its own.

What of a `prediction` is not written is billed as output, beside the cap. `plugins` to `route` are OpenRouter's:
another model, or a seller with other prices, answers; the last two are xAI's and Alibaba's searches.
"""
ALLOWED_VALUES: dict[str, tuple[object, ...]] = {
    "service_tier": (None, "auto", "default", "standard", "standard_only"),
    "speed": (None, "standard"),
    "inference_geo": (None, "global"),
    "background": (None, False),
    "fallbacks": (None, []),
}
"""Fields whose other values multiply the price, have another model answer at its own, or answer later: the price book
knows the standard only.
"""
SCHEMAS = ("response_format", "text", "output_config", "output_format")
TOOLS = ("tools", "functions")
CONTENT_FIELDS = ("messages", "input")

_LOOKED_AT = frozenset(
    {*OUTPUT_CAPS, *EXTERNAL_CONTEXT_FIELDS, *EXTRA_COST_FIELDS, *ALLOWED_VALUES, *SCHEMAS, *TOOLS, *CONTENT_FIELDS}
    | {"model", "stream", "stream_options", "n", "thread", "context_management", "system", "instructions"}
)
_FOLDED = {name.casefold(): name for name in _LOOKED_AT}

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_pairs = json.JSONDecoder(object_pairs_hook=list).decode


def check_names(body: bytes, fields: Mapping[str, Any]) -> None:
    """Refuse what other readers of the body may read as another value of a field that is looked at.

    Some read names without regard to case, some take the first of two values; nested members are not looked at.

    Raises:
        InvalidRequest: names the member.

    """
    for name in fields:
        if name not in _LOOKED_AT and (meant := _FOLDED.get(name.casefold())) is not None:
            raise InvalidRequest(f"`{name}` is written `{meant}`", field=name)
    if member_spans(body, _decode_members(body)) is None:
        counted = Counter(name for name, _ in _pairs(body))
        twice = next((name for name, count in counted.items() if count > 1 and name in _LOOKED_AT), None)
        if twice is not None:
            raise InvalidRequest(f"`{twice}` is given twice", field=twice)


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    try:
        pairs: list[tuple[str, Any]] = _decode_pairs(body.decode().strip())
    except (ValueError, RecursionError):
        raise InvalidRequest("the body has a name twice, and cannot be read in another way") from None
    return pairs
