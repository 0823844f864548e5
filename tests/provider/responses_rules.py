"""What OpenAI refuses of a request: what belongs to the other of its two APIs, and what would need state.

The models and the sentences are those of the vendor's documentation and of reports of its refusals.
"""

from typing import Any

RESPONSES_ONLY = ("gpt-5-pro", "o3-pro", "o1-pro", "gpt-5.3-codex")
NO_CHAT_TOOLS = ("gpt-6-astra", "gpt-6.1-sol", "gpt-6.2-sol")
CHAT_TOOLS_AT_NONE = ("gpt-5.6", "gpt-6-sol")
CHAT_TOOLS_WITHOUT_EFFORT = ("gpt-5.4", "gpt-5.5")
SEAL = "sealed."
"""Opens the encrypted thinking that this provider gives out."""
LEAST_CAP = 16
_NO_MEMBERS = frozenset({"reasoning_content", "reasoning_details"})
"""Of a message: other sellers' chat completions have them, and OpenAI's refuse them."""
MAX_CALL_ID_CHARS = 64

_NO_FIELDS = (
    *("messages", "max_tokens", "max_completion_tokens", "stop", "n", "seed", "reasoning_effort", "response_format"),
    *("frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "functions", "function_call", "modalities"),
)
"""Of chat completions alone. What neither API has may be a field of tomorrow."""
_OUTPUTS = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
_USER_PARTS = frozenset({"input_text", "input_image", "input_file"})
_ASSISTANT_PARTS = frozenset({"output_text", "refusal"})


def refuse_chat(body: dict[str, Any]) -> str | None:
    """Return why chat completions refuse a request; None if they do not."""
    model = body["model"]
    if model.startswith(RESPONSES_ONLY):
        return "This model is only supported in v1/responses and not in v1/chat/completions."
    for number, message in enumerate(body["messages"]):
        odd = next((name for name in message if name in _NO_MEMBERS), None)
        if odd is not None:
            return f"Unknown parameter: 'messages[{number}].{odd}'."
    if not body.get("tools"):
        return None
    effort = body.get("reasoning_effort")
    has_no_effort = effort in (None, "none")
    if (
        model.startswith(NO_CHAT_TOOLS)
        or (model.startswith(CHAT_TOOLS_AT_NONE) and effort != "none")
        or (model.startswith(CHAT_TOOLS_WITHOUT_EFFORT) and not has_no_effort)
    ):
        return (
            f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. "
            "Please use /v1/responses instead."
        )
    return None


def refuse_response(body: dict[str, Any]) -> str | None:
    """Return why the Responses API refuses a request; None if it does not."""
    unknown = next((name for name in _NO_FIELDS if name in body), None)
    if unknown is not None:
        return f"Unknown parameter: '{unknown}'."
    cap = body.get("max_output_tokens")
    if cap is not None and cap < LEAST_CAP:
        return (
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {cap} instead."
        )
    items = body["input"] if isinstance(body.get("input"), list) else []
    return _unpaired(items, is_continued=bool(body.get("previous_response_id"))) or next(
        filter(None, (_refuse_item(item, items[number + 1 :], body) for number, item in enumerate(items))), None
    )


def _unpaired(items: list[dict[str, Any]], *, is_continued: bool) -> str | None:
    for kind, output in _OUTPUTS.items():
        calls = {item["call_id"] for item in items if item.get("type") == kind}
        results = {item["call_id"] for item in items if item.get("type") == output}
        if calls - results:
            return f"No tool output found for function call {min(calls - results)}."
        if results - calls and not is_continued and not any(item.get("type") == "item_reference" for item in items):
            return f"No tool call found for function call output with call_id {min(results - calls)}."
    return None


def _refuse_item(item: dict[str, Any], rest: list[dict[str, Any]], body: dict[str, Any]) -> str | None:
    kind = item.get("type", "message")
    if kind == "reasoning":
        return _refuse_thinking(item, rest, is_stored=body.get("store") is not False)
    if len(item.get("call_id") or "") > MAX_CALL_ID_CHARS:
        return "Invalid 'input': string too long. Expected a string with maximum length 64."
    if kind != "message" or not isinstance(item["content"], list):
        return None
    allowed = _ASSISTANT_PARTS if item["role"] == "assistant" else _USER_PARTS
    wrong = next((part["type"] for part in item["content"] if part["type"] not in allowed), None)
    return f"Invalid value: '{wrong}'. Supported values are: {', '.join(sorted(allowed))}." if wrong else None


def _refuse_thinking(item: dict[str, Any], rest: list[dict[str, Any]], *, is_stored: bool) -> str | None:
    if "summary" not in item:
        return "Missing required parameter: 'input[0].summary'."
    encrypted = item.get("encrypted_content")
    if encrypted is not None and not encrypted.startswith(SEAL):
        return f"The encrypted content for item {item.get('id')} could not be verified."
    if encrypted is None and not is_stored:
        return f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is set to false."
    follower = next((other for other in rest if other.get("type") != "reasoning"), None)
    if (
        follower is None
        or follower.get("role", "assistant") != "assistant"
        or follower.get("type") in _OUTPUTS.values()
    ):
        return f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
    return None
