"""The fields of Anthropic's requests that its SDK documents (anthropic 2.12 and its beta, and older ones)."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


COUNT_TOKENS_FIELDS = _names(
    "betas billing_policy cache_control compaction context_management mcp_servers messages model output_config "
    "output_format speed system thinking tool_choice tools user_profile_id workspace_id"
)
MESSAGES_FIELDS = COUNT_TOKENS_FIELDS | _names(
    "container diagnostics fallback_credit_token fallbacks inference_geo max_tokens metadata service_tier "
    "stop_sequences stream temperature thread top_k top_p"
)
