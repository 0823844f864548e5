"""What becomes of each field between Anthropic's dialect and others'. See `FieldRule`.

`CLIENT_RULES` have the fields of an Anthropic client's request, as Anthropic spells them; `PROVIDER_RULES` those of the
canonical request on its way to a model of Anthropic's. A row that is carried says by which means.
"""

from domain.dialects.field_rules import FieldRule


def _carried(field: str, how: str) -> FieldRule:
    return FieldRule(field=field, fate="carried", how=how)


def _dropped(field: str, how: str, *harmless: object) -> FieldRule:
    return FieldRule(field=field, fate="dropped", how=how, harmless=harmless)


def _refused(field: str, how: str, *harmless: object) -> FieldRule:
    return FieldRule(field=field, fate="refused", how=how, harmless=harmless)


CLIENT_NAMES = {
    "stop": "stop_sequences",
    "user": "user_id",
    "reasoning": "thinking",
    "reasoning_effort": "effort",
    "thinking_budget": "budget_tokens",
    "shows_reasoning": "display",
    "response_format": "format",
    "parallel_tool_calls": "disable_parallel_tool_use",
}
"""Canonical fields that Anthropic's clients know by another name: of a path its last member."""

CLIENT_RULES: tuple[FieldRule, ...] = (
    _carried("model", "by the routes of the gateway"),
    _carried("max_tokens", "as the most tokens of output"),
    _carried("messages", "in their order; results of tools come before what else their turn says"),
    _carried("system", "as the first message, of role `system`"),
    _carried("temperature", "as it is"),
    _carried("top_p", "as it is"),
    _carried("stop_sequences", "as `stop`"),
    _carried("stream", "as it is"),
    _carried("metadata.user_id", "as `user`; by its SHA-256 if it is longer than 1,024 characters"),
    _carried("tools[].name", "as the name of a function"),
    _carried("tools[].description", "as it is"),
    _carried("tools[].input_schema", "as `parameters`, its members in their order"),
    _carried("tools[].input_examples", "at the end of the description"),
    _carried("tools[].strict", "as it is"),
    _carried(
        "tools[bash_*]", "as a function with the tool's own schema; also `text_editor_*`, `memory_*`, `computer_*`"
    ),
    _carried("tool_choice", "as `tool_choice`"),
    _carried("tool_choice.disable_parallel_tool_use", "as `parallel_tool_calls`"),
    _carried("output_config.effort", "as `reasoning_effort`"),
    _carried("output_config.format", "as `response_format`; `strict` if every member of the schema is required"),
    _carried("output_format", "as `output_config.format`, its older name"),
    _carried("thinking.budget_tokens", "as a budget, or as the effort that it amounts to"),
    _carried("thinking.type", "`disabled` as the effort `none`"),
    _carried("thinking.display", "`omitted`: the answer shows no thinking"),
    _carried("messages[].content[text]", "as text"),
    _carried("messages[].content[image]", "as `image_url`, in results of tools as well"),
    _carried("messages[].content[document]", "a PDF as a file, a text as text with its title, in results as well"),
    _carried("messages[].content[search_result]", "as text with its title and source"),
    _carried("messages[].content[thinking]", "what another vendor's model wrote goes back to it"),
    _carried("messages[].content[tool_use]", "as `tool_calls`; text that follows one stands before them"),
    _carried("messages[].content[tool_result]", "as a message of role `tool`"),
    _carried("messages[].content[server_tool_use]", "as text, with the results of such tools"),
    _carried(
        "messages[].content[] (of another API)",
        "`image_url`, `file`, `input_text`, `output_text`, `input_image` … as what they mean",
    ),
    _carried("messages[].tool_calls", "OpenAI's, with messages of the role `tool`: as `tool_use` and `tool_result`"),
    _carried("messages[].content[].citations", "the sources as text behind what cites them"),
    _dropped("cache_control", "a hint about the price; other vendors' caches keep prompts by themselves"),
    _dropped("top_k", "a setting of the sampling that other vendors do not have"),
    _dropped("service_tier", "a matter of price and speed", "auto", "standard_only"),
    _dropped("speed", "a matter of price and speed", "standard"),
    _dropped("container", "only Anthropic's own tools work in it"),
    _dropped("context_management", "the whole conversation is sent", {}, {"edits": []}),
    _dropped("compaction", "the whole conversation is sent"),
    _dropped("diagnostics", "they are told about the request, not asked of it", {}, {"previous_message_id": None}),
    _dropped("user_profile_id", "only Anthropic knows it"),
    _dropped("workspace_id", "only Anthropic knows it"),
    _dropped("betas", "they are Anthropic's", []),
    _dropped("fallbacks", "the model that is named answers", []),
    _dropped(
        "tools[web_search_*]", "a tool that Anthropic runs; the model answers without it. Refused if it is forced"
    ),
    _refused("mcp_servers", "only Anthropic calls them: send the servers' tools as `tools`", []),
    _refused("inference_geo", "only Anthropic promises it: ask for a provider of that region", "global"),
    _refused("messages[].content[].source.file_id", "the file is at Anthropic: send its content"),
    _refused("messages[].content[container_upload]", "the file is at Anthropic: send its content as a `document`"),
)

PROVIDER_RULES: tuple[FieldRule, ...] = (
    _carried("messages", "as turns that alternate; later instructions as text of the user's in their place"),
    _carried(
        "messages[].reasoning",
        "the model's own thinking as `thinking` blocks, in its place; other is told",
    ),
    _carried("messages[].tool_calls", "as `tool_use` blocks; ids of other characters are written in other words"),
    _carried("messages[].content[image_url]", "by its content, or its address, which is sent as https"),
    _carried("messages[].content[].cache_control", "as it is, the last four of them"),
    _carried("cache_control", "as it is: of the whole request"),
    _carried("max_tokens", "lowered to the model's own limit; that limit where there is none"),
    _carried("temperature", "lowered to 1; dropped for models that take none, and with thinking"),
    _carried("top_p", "dropped for models that take none, or none beside a temperature"),
    _carried("stop", "as `stop_sequences`; blank ones are dropped"),
    _carried("n", "by as many calls, joined into one answer"),
    _carried("user", "as `metadata.user_id`; by its SHA-256 if it is long, or an e-mail address"),
    _carried("tools", "with `properties`, and without a union at the top of a schema"),
    _carried("tool_choice", "as it is; by an instruction for models that cannot be forced"),
    _carried("parallel_tool_calls", "as `disable_parallel_tool_use`"),
    _carried("response_format", "as `output_config.format`, by a tool, or by an instruction, as the model has it"),
    _carried("reasoning_effort", "as `output_config.effort`, or as a budget of thinking tokens"),
    _carried("thinking_budget", "as `thinking.budget_tokens`, or as an effort"),
    _carried("shows_reasoning", "as `thinking.display`"),
    _dropped("seed", "no answer of these models can be repeated"),
    _dropped("messages[].name", "who speaks can be said in the text"),
    _dropped("messages[].content[].image_url.detail", "every image is seen whole", "auto"),
)
