"""The names that matter in a request in a vendor's dialect: those that it may have, those that are looked at.

The lists are those of the vendors' own SDKs (openai 3.54, anthropic 2.12, with its beta fields and what older ones
had). Does not know what a field means: `domain/dialects/passthrough/inspect.py` does.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Raw

from domain.errors import InvalidRequest

WireOperation = Literal["chat", "embeddings", "responses", "count_tokens"]
WireDialect = Literal["openai", "anthropic"]

CAPS: dict[tuple[WireDialect, WireOperation], tuple[str, ...]] = {
    ("openai", "chat"): ("max_completion_tokens", "max_tokens"),
    ("openai", "responses"): ("max_output_tokens",),
    ("anthropic", "chat"): ("max_tokens",),
}
"""Where a caller says how long the answer may be; the first is where the gateway says it."""
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
    {name for names in CAPS.values() for name in names}
    | {*EXTERNAL_CONTEXT_FIELDS, *EXTRA_COST_FIELDS, *ALLOWED_VALUES, *SCHEMAS, *TOOLS, *CONTENT_FIELDS}
    | {"model", "stream", "stream_options", "n", "thread", "context_management", "system", "instructions"}
)
_FOLDED = {name.casefold(): name for name in _LOOKED_AT}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHARED_OPENAI = _names(
    "metadata model moderation parallel_tool_calls prompt_cache_key prompt_cache_options prompt_cache_retention "
    "safety_identifier service_tier store stream stream_options temperature tool_choice tools top_logprobs top_p "
    "user"
)
_COUNTED_ANTHROPIC = _names(
    "betas billing_policy cache_control compaction context_management mcp_servers messages model output_config "
    "output_format speed system thinking tool_choice tools user_profile_id workspace_id"
)
KNOWN_FIELDS: dict[tuple[WireDialect, WireOperation], frozenset[str]] = {
    ("openai", "chat"): _SHARED_OPENAI
    | _names(
        "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages "
        "modalities n prediction presence_penalty reasoning_effort response_format seed stop verbosity "
        "web_search_options"
    ),
    ("openai", "responses"): _SHARED_OPENAI
    | _names(
        "access_programs background background_options context_management conversation image include input "
        "instructions max_output_tokens max_tool_calls previous_response_id prompt reasoning text truncation"
    ),
    ("openai", "embeddings"): _names("dimensions encoding_format input model user"),
    ("anthropic", "chat"): _COUNTED_ANTHROPIC
    | _names(
        "container diagnostics fallback_credit_token fallbacks inference_geo max_tokens metadata service_tier "
        "stop_sequences stream temperature thread top_k top_p"
    ),
    ("anthropic", "count_tokens"): _COUNTED_ANTHROPIC,
}
"""The members that a request of an operation has in its vendor's own documents."""

_before_value = re.compile(rb'\s*[{,]\s*"[^"\\]*(?:\\.[^"\\]*)*"\s*:\s*').match
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_pairs = json.JSONDecoder(object_pairs_hook=list).decode


def unknown_field(fields: Iterable[str], dialect: WireDialect, operation: WireOperation) -> str | None:
    """The first member, if any, that the vendor's dialect does not have."""
    known = KNOWN_FIELDS.get((dialect, operation), frozenset())
    return next((name for name in fields if name not in known), None)


def check_names(body: bytes, fields: Mapping[str, Any]) -> None:
    """Refuse what other readers of the body may read as another value of a field that is looked at.

    Some read names without regard to case, some take the first of two values; nested members are not looked at.

    Raises:
        InvalidRequest: names the member.

    """
    for name in fields:
        if name not in _LOOKED_AT and (meant := _FOLDED.get(name.casefold())) is not None:
            raise InvalidRequest(f"`{name}` is written `{meant}`", field=name)
    if not _has_each_name_once(body):
        counted = Counter(name for name, _ in _pairs(body))
        twice = next((name for name, count in counted.items() if count > 1 and name in _LOOKED_AT), None)
        if twice is not None:
            raise InvalidRequest(f"`{twice}` is given twice", field=twice)


def _has_each_name_once(body: bytes) -> bool:
    """Whether the object's last values are all that it has: of a name given twice, an earlier one is left over."""
    position = 0
    for value in _decode_members(body).values():
        before = _before_value(body, position)
        written = memoryview(value)
        if before is None or not body.startswith(written, before.end()):
            return False
        position = before.end() + len(written)
    return body[position:].strip() == b"}"


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    try:
        pairs: list[tuple[str, Any]] = _decode_pairs(body.decode().strip())
    except (ValueError, RecursionError):
        raise InvalidRequest("the body has a name twice, and cannot be read in another way") from None
    return pairs
