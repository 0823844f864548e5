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
METERED_LATER_FIELD = "background"
"""Has the response made later: it costs what it will say then, if its provider can be asked for it."""
EXTRA_COST_FIELDS = (
    "plugins",
    "models",
    "provider",
    "route",
    "search_parameters",
    "enable_search",
    "fallbacks",
    METERED_LATER_FIELD,
)
"""Fields that turn on something whose cost has no known bound.

`plugins` to `route` are
OpenRouter's: another model answers, or a seller with other prices. The next two are xAI's and Alibaba's searches. With
Anthropic's `fallbacks` another model may answer, and a response in the `background` comes later.
"""
SEARCH_FIELD = "web_search_options"
"""Has the model search the web, once."""
MCP_FIELD = "mcp_servers"
"""Tools that Anthropic calls."""
STANDARD_TERMS: dict[str, tuple[object, ...]] = {
    "service_tier": (None, "auto", "default", "standard", "standard_only"),
    "speed": (None, "standard"),
    "inference_geo": (None, "global"),
}
"""Fields that set the terms of a request, with the values of the standard ones. Others have prices of their own, if the
price book knows any. `auto` is what the account at the provider is set to: taken to be the standard, until the answer
says on which terms it was served.
"""
SHAPING_FIELDS = frozenset(
    {
        "bad_words",
        "chat_template_kwargs",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "ignore_eos",
        "include_reasoning",
        "length_penalty",
        "min_p",
        "min_tokens",
        "no_repeat_ngram_size",
        "reasoning_format",
        "repeat_penalty",
        "repetition_penalty",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop_token_ids",
        "structured_outputs",
        "top_a",
        "top_k",
        "typical_p",
    }
)
"""Fields of vLLM's, llama.cpp's and other servers' that shape an answer within its cap, and cost nothing."""
BETA_HEADER = "anthropic-beta"
BETA_FIELDS = ("betas", "anthropic_beta")
"""Fields in which some sellers of Anthropic's models read what others read in that header."""
SCHEMA_FIELDS = ("response_format", "text", "output_config", "output_format")
TOOL_FIELDS = ("tools", "functions")
CONTENT_FIELDS = ("messages", "input")

_READ_FIELDS = frozenset(
    {
        *OUTPUT_CAP_FIELDS,
        *EXTERNAL_CONTEXT_FIELDS,
        *EXTRA_COST_FIELDS,
        "compaction",
        "prediction",
        SEARCH_FIELD,
        MCP_FIELD,
        *STANDARD_TERMS,
        *SCHEMA_FIELDS,
        *TOOL_FIELDS,
        *CONTENT_FIELDS,
    }
    | {
        "model",
        "stream",
        "stream_options",
        "n",
        "max_tool_calls",
        "audio",
        "modalities",
        "thread",
        "context_management",
        "system",
        "instructions",
    }
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
