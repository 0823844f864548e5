"""The fields of OpenAI's requests that its SDK documents (openai 3.54, and older ones)."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHARED = _names(
    "metadata model moderation parallel_tool_calls prompt_cache_key prompt_cache_options prompt_cache_retention "
    "safety_identifier service_tier store stream stream_options temperature tool_choice tools top_logprobs top_p "
    "user"
)
CHAT_FIELDS = _SHARED | _names(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages "
    "modalities n prediction presence_penalty reasoning_effort response_format seed stop verbosity web_search_options"
)
RESPONSES_FIELDS = _SHARED | _names(
    "access_programs background background_options context_management conversation image include input "
    "instructions max_output_tokens max_tool_calls previous_response_id prompt reasoning text truncation"
)
COMPLETIONS_FIELDS = _names(
    "best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt seed stop stream "
    "stream_options suffix temperature top_p user"
)
MODERATIONS_FIELDS = _names("input model")
EMBEDDINGS_FIELDS = _names("dimensions encoding_format input model user")
COMPACT_FIELDS = _names(
    "input instructions model previous_response_id prompt_cache_key prompt_cache_options prompt_cache_retention "
    "reasoning service_tier text tools parallel_tool_calls"
)
