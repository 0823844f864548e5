"""The fields of a passed-through request that are read, and the refusal of names that others may read as one of them.

`domain/dialects/passthrough/inspect.py` knows what they mean.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from domain.errors import InvalidRequest

OUTPUT_CAP_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
EXTERNAL_CONTEXT_FIELDS = ("previous_response_id", "conversation", "prompt", "container")
"""Fields that name context that is stored at the provider."""
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
"""Fields that turn on something with a price of its own.

The part of a `prediction` that the model does not write is billed as output, beside the cap. `plugins` to `route` are
OpenRouter's: another model answers, or a seller with other prices. The last two are xAI's and Alibaba's searches.
"""
ALLOWED_VALUES: dict[str, tuple[object, ...]] = {
    "service_tier": (None, "auto", "default", "standard", "standard_only"),
    "speed": (None, "standard"),
    "inference_geo": (None, "global"),
    "background": (None, False),
    "fallbacks": (None, []),
}
"""Fields of which any other value has no known price: it multiplies the price, or has another model answer at its own
price, or the response comes later.
"""
SCHEMA_FIELDS = ("response_format", "text", "output_config", "output_format")
TOOL_FIELDS = ("tools", "functions")
CONTENT_FIELDS = ("messages", "input")

_READ_FIELDS = frozenset(
    {
        *OUTPUT_CAP_FIELDS,
        *EXTERNAL_CONTEXT_FIELDS,
        *EXTRA_COST_FIELDS,
        *ALLOWED_VALUES,
        *SCHEMA_FIELDS,
        *TOOL_FIELDS,
        *CONTENT_FIELDS,
    }
    | {"model", "stream", "stream_options", "n", "thread", "context_management", "system", "instructions"}
)
_FOLDED = {name.casefold(): name for name in _READ_FIELDS}

_decode_pairs = json.JSONDecoder(object_pairs_hook=list).decode


def check_names(body: bytes, fields: Mapping[str, Any], *, has_duplicates: bool) -> None:
    """Refuse a name that another reader of the body may take for a field that is read here, with another value.

    Some readers ignore the case of names, some take the first of two values. Nested members are not checked.

    Raises:
        InvalidRequest: names the member.

    """
    for name in fields:
        if name not in _READ_FIELDS and (meant := _FOLDED.get(name.casefold())) is not None:
            raise InvalidRequest(f"`{name}` is written `{meant}`", field=name)
    if has_duplicates:
        counted = Counter(name for name, _ in _pairs(body))
        twice = next((name for name, count in counted.items() if count > 1 and name in _READ_FIELDS), None)
        if twice is not None:
            raise InvalidRequest(f"`{twice}` is given twice", field=twice)


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    try:
        pairs: list[tuple[str, Any]] = _decode_pairs(body.decode().strip())
    except (ValueError, RecursionError):
        raise InvalidRequest("the body has a name twice, and cannot be read in another way") from None
    return pairs
