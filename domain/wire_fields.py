"""The names of those members of a request in a vendor's dialect that money depends on. What they mean: `domain/wire.py`."""

from typing import Literal

WireOperation = Literal["chat", "embeddings", "responses", "count_tokens"]
WireDialect = Literal["openai", "anthropic"]

CAPS: dict[tuple[WireDialect, WireOperation], tuple[str, ...]] = {
    ("openai", "chat"): ("max_completion_tokens", "max_tokens"),
    ("openai", "responses"): ("max_output_tokens",),
    ("anthropic", "chat"): ("max_tokens",),
}
"""Where a caller says how long the answer may be; the first is where the gateway says it."""
ELSEWHERE = ("previous_response_id", "conversation", "prompt", "container")
"""Fields that name context which lies with the provider."""
CHARGED = (
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
STANDARD: dict[str, tuple[object, ...]] = {
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
ASKED = ("messages", "input")
