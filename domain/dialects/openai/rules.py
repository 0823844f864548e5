"""What becomes of the fields of OpenAI's chat completions and embeddings: those of clients, and those to providers."""

from domain.dialects.field_rules import FieldRule


def _carried(field: str, how: str) -> FieldRule:
    return FieldRule(field=field, fate="carried", how=how)


def _dropped(field: str, how: str, *harmless: object) -> FieldRule:
    return FieldRule(field=field, fate="dropped", how=how, harmless=harmless)


def _refused(field: str, how: str, *harmless: object) -> FieldRule:
    return FieldRule(field=field, fate="refused", how=how, harmless=harmless)


CHAT_CLIENT_RULES = (
    _carried("max_completion_tokens", "the same as `max_tokens`; of two that differ, the smaller counts"),
    _carried("safety_identifier", "the same as `user`, and before it"),
    _carried("n", "a call for each answer, where a model gives one; more than one is then refused in a stream"),
    _carried("functions", "deprecated: as `tools`; the calls come back as `function_call`"),
    _carried("function_call", "deprecated: as `tool_choice`"),
    _carried("tools[].custom", "a function with one text, `input`; its grammar stands in the description"),
    _carried("tool_choice.allowed_tools", "only these tools are sent"),
    _carried("response_format", "`json_schema` without a schema is `json_object`"),
    _carried("reasoning_effort", "a level that no model has is dropped"),
    _carried("reasoning", "OpenRouter's: `effort`, `max_tokens`, `enabled`, `exclude`"),
    _carried("thinking", "Anthropic's: its budget, or that there is none"),
    _carried("include_reasoning", "OpenRouter's: the answer is to have the model's thinking"),
    _carried("cache_control", "Anthropic's, of the whole request"),
    _carried("messages[].cache_control", "Anthropic's, on messages, parts and tools"),
    _carried("messages[].reasoning_content", "the model's thinking, as `reasoning` or `reasoning_details` too"),
    _carried("messages[].reasoning_details", "the model's thinking, with its signatures"),
    _carried("messages[].function_call", "deprecated: as `tool_calls`"),
    _carried("messages[].refusal", "it is what the model said"),
    _carried("messages[].content[].file", "`file_data`, as base64 or as a `data:` URL"),
    _carried(
        "messages[].content[] (of another API)",
        "`tool_use`, `tool_result`, `image`, `document`, `input_text`, `input_image` … as what they mean",
    ),
    _carried("messages[].tool_calls[].extra_content", "Gemini's `thought_signature`"),
    _dropped("presence_penalty", "only OpenAI's models take it", 0),
    _dropped("frequency_penalty", "only OpenAI's models take it", 0),
    _dropped("logit_bias", "its tokens are those of OpenAI's models", {}),
    _dropped("top_logprobs", "it says how many log probabilities are told", 0),
    _dropped("store", "nothing is kept for OpenAI's dashboard", False),
    _dropped("metadata", "it is for OpenAI's dashboard; the header `x-gateway-metadata` groups usage", {}),
    _dropped("service_tier", "only OpenAI sells its tiers", "auto", "default"),
    _dropped("verbosity", "other vendors have no such setting", "medium"),
    _dropped("prediction", "it only makes OpenAI's models faster"),
    _dropped("web_search_options", "only OpenAI's models search this way, when they see fit"),
    _dropped("prompt_cache_key", "other vendors' prompt caches have no such setting"),
    _dropped("prompt_cache_options", "other vendors' prompt caches have no such setting", {}),
    _dropped("prompt_cache_retention", "other vendors' prompt caches have no such setting"),
    _dropped("tool_choice", "without tools it says nothing"),
    _dropped("parallel_tool_calls", "without tools it says nothing"),
    _dropped("tools[].type", "a tool that only OpenAI runs, and that need not be used"),
    _dropped("stream_options.include_obfuscation", "chunks are not padded here", False),
    _dropped("messages[].annotations", "what they cite stands in the text", []),
    _dropped("messages[].content[].prompt_cache_breakpoint", "other vendors' prompt caches have no such setting"),
    _refused("logprobs", "only OpenAI's models tell them; leave it out", False),
    _refused("modalities", 'text is what can be answered; send `["text"]`', ["text"], []),
    _refused("audio", "text is what can be answered; leave it out"),
    _refused("moderation", "only OpenAI moderates on the way; leave it out"),
)
"""Of the fields of a request, as clients spell them."""

_NO_FIELD = "the API of the provider has no such field"

CHAT_PROVIDER_RULES = (
    _carried("max_tokens", "the model's own field for it; what is above the model's limit is lowered to it"),
    _carried("user", "as its SHA-256 if it is longer than 64 characters"),
    _carried("thinking_budget", "the effort that has about this budget, for models that take one"),
    _carried("tools[].function.name", "another name, mapped both ways, if it has more than 64 characters or odd ones"),
    _carried("tools[].function.parameters", "with `properties`, if it has none"),
    _carried("tools[].function.strict", "if the schema is one that may be strict"),
    _carried("response_format.json_schema", "an instruction and `json_object`, for models that know no schema"),
    _carried("messages[].tool_calls[].id", "as a digest, at both ends alike, if it has more than 40 characters"),
    _carried("messages[tool].content", "images and files follow in a message of the user"),
    _carried("messages[tool].is_error", "a line that opens the content"),
    _carried(
        "messages[].reasoning",
        "to models that gave it: `reasoning_content` while tools run, `reasoning_details` to sellers; other is told",
    ),
    _carried("messages[developer]", "a system message, for models that know no `developer`"),
    _carried("messages[].content[].file", "a PDF as a file, a text as text"),
    _dropped("reasoning_effort", "the model takes none, or none beside tools; else the nearest level that it takes"),
    _dropped("thinking_budget", "the model takes no effort"),
    _dropped("temperature", "the model takes none"),
    _dropped("top_p", "the model takes none"),
    _dropped("stop", "the model takes none, or fewer"),
    _dropped("tool_choice", "without tools it says nothing"),
    _dropped("parallel_tool_calls", "without tools it says nothing; some models take none"),
    _dropped("messages[].name", "it has characters that a name may not have"),
    _dropped("cache_control", f"a hint about the price; {_NO_FIELD}"),
    _refused("tools", "send fewer: the model takes no more"),
    _refused("messages[].content[].image_url", "the model sees no images: send text, or ask another model"),
    _refused("messages[].content[].file", "send the PDF itself, as a `data:` URL: the API takes no address of one"),
)
"""Of the canonical fields, in snake case."""

EMBEDDINGS_CLIENT_RULES = (_refused("input", "send texts, tokens are those of OpenAI's models"),)
