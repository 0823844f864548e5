"""What becomes of each field of a Responses request on its way to a model that has chat alone."""

from domain.dialects.field_rules import FieldRule, rules_by_name

WHOLE_INPUT = "nothing is kept of an answer of this model: send the whole conversation as `input`, with `store: false`"

WHOLE_ITEMS = (
    "nothing is kept of an answer of this model: send its items themselves, with `store: false` (the AI SDK does with "
    "`providerOptions: {openai: {store: false}}`)"
)


def _carried(field: str, how: str) -> FieldRule:
    return FieldRule(field=field, fate="carried", how=how)


def _dropped(field: str, how: str, *harmless: object) -> FieldRule:
    return FieldRule(field=field, fate="dropped", how=how, harmless=harmless)


def _refused(field: str, how: str, *harmless: object) -> FieldRule:
    return FieldRule(field=field, fate="refused", how=how, harmless=harmless)


RESPONSES_RULES: tuple[FieldRule, ...] = (
    _carried("model", "as the model's name"),
    _carried("input", "as messages: text, images, files, calls and their results, thinking"),
    _carried(
        "input[].content[] (of another API)",
        "`image_url`, `file`, `image`, `document`, `tool_use`, `tool_result` … as what they mean",
    ),
    _carried("input[].tool_calls", "those of chat completions, with messages of the role `tool`: as calls and outputs"),
    _carried("instructions", "as a system message in front"),
    _carried(
        "tools", "functions as they are, custom, local and name-spaced tools as functions, and back in the answer"
    ),
    _carried("tool_choice", "`allowed_tools` by sending only those"),
    _carried("parallel_tool_calls", "as it is"),
    _carried("text.format", "as the response format"),
    _carried("reasoning.effort", "as the effort, or as a thinking budget"),
    _carried("reasoning.summary", "the model's thinking is the summary"),
    _carried("max_output_tokens", "as the output cap"),
    _carried("temperature", "as it is"),
    _carried("top_p", "as it is"),
    _carried("user", "as the end user"),
    _carried("safety_identifier", "as the end user"),
    _carried("stream", "the events of the Responses API"),
    _carried("cache_control", "Anthropic's, of the whole request and of parts"),
    _carried("metadata", "repeated in the answer"),
    _carried(
        "include[] (reasoning.encrypted_content)", "thinking with its signatures, in a form that this gateway reads"
    ),
    _dropped("include", "other details belong to tools that OpenAI runs", []),
    _dropped("store", "nothing is kept; the answer says `store: false`", False),
    _dropped("text.verbosity", "a wish", "medium"),
    _dropped("truncation", "a conversation that is too long is refused", "disabled"),
    _dropped("max_tool_calls", "it counts calls of tools that OpenAI runs"),
    _dropped("top_logprobs", "only OpenAI's models tell them", 0),
    _dropped("service_tier", "only OpenAI sells its tiers", "auto", "default"),
    _dropped("prompt_cache_key", "other prompt caches have no such setting"),
    _dropped("prompt_cache_options", "other prompt caches have no such setting"),
    _dropped("prompt_cache_retention", "other prompt caches have no such setting"),
    _dropped("context_management", "the whole conversation is sent", []),
    _dropped("moderation", "only OpenAI moderates on the way"),
    _dropped("access_programs", "OpenAI's own"),
    _dropped("background_options", "OpenAI's own"),
    _dropped("image", "OpenAI's own"),
    _dropped("stream_options.include_obfuscation", "chunks are not padded here", False),
    _dropped("input[].status", "it says nothing to the model"),
    _dropped("input[] (reasoning of another vendor)", "no other model can read it"),
    _dropped("input[] (mcp_list_tools, mcp_approval_…, tool_search_…)", "bookkeeping of tools that OpenAI runs"),
    _carried("input[] (web_search_call, file_search_call, …)", "what OpenAI's own tools did, as text"),
    _dropped("tools[] (web_search, file_search, code_interpreter, mcp, …)", "only OpenAI runs them"),
    _refused("tool_choice (a tool that OpenAI runs)", "only OpenAI runs it: give the model a function"),
    _refused("include[] (message.output_text.logprobs)", "only OpenAI's models tell them: leave it out"),
    _refused("previous_response_id", WHOLE_INPUT),
    _refused("conversation", WHOLE_INPUT),
    _refused("input[] (item_reference)", WHOLE_ITEMS),
    _refused("input[] (compaction)", "only OpenAI's models read it: send the conversation itself"),
    _refused("input[].content[].file_id", "the file is kept at OpenAI: send its content as `file_data` or `image_url`"),
    _refused("input[] (computer_call, computer_call_output)", "the tool is for OpenAI's models only"),
    _refused("prompt", "the prompt is kept at OpenAI: send its text as `instructions` and `input`"),
    _refused("background", "the answer comes at once, or as a stream: leave it out", False),
)
"""Of the fields of a request, as clients spell them."""

RESPONSES_PROVIDER_RULES: tuple[FieldRule, ...] = (
    _carried("max_tokens", "`max_output_tokens`, at least 16; what is above the model's limit is lowered to it"),
    _carried("tools", "beside any effort, also for models that chat completions take none for"),
    _carried("reasoning_effort", "the nearest level that the model takes, the highest included"),
    _carried("thinking_budget", "the effort that has about this budget"),
    _carried("shows_reasoning", "a summary of the thinking"),
    _carried("messages[].reasoning", "the model's own, encrypted, in every turn"),
    _carried("messages[tool].content", "images and files in the result itself"),
    _carried("messages[].content[].file", "a PDF, or its address; a text as text"),
    _carried("response_format.json_schema", "`text.format`"),
    _carried("n", "a call for each answer; more than one is refused in a stream"),
    _carried("user", "as its SHA-256 if it is longer than 64 characters"),
    _dropped("stop", "the API has no such field, and the models take none"),
    _dropped("seed", "the API has no such field"),
    _dropped("messages[].name", "the API has no such field"),
    _dropped("messages[].reasoning (another model's)", "the model cannot read it"),
    _dropped("temperature", "the model takes none"),
    _dropped("top_p", "the model takes none"),
    _dropped("cache_control", "a hint about the price; the API has no such field"),
)
"""Of the canonical fields, in snake case, of a chat request that is asked as a response."""
TOP_LEVEL_RULES = rules_by_name(RESPONSES_RULES)
TEXT_RULES = rules_by_name(RESPONSES_RULES, "text")
STREAM_OPTIONS_RULES = rules_by_name(RESPONSES_RULES, "stream_options")
