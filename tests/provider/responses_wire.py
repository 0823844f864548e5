"""OpenAI's Responses API, as the vendor serves it."""

from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import unquote

from tests.provider.bill import Usage
from tests.provider.openai_wire import CREATED_S, is_forcing, schema_of, sse
from tests.provider.request_model import Answer, Call, Frame, ModelRequest, Tool, argument_deltas, text_of
from tests.provider.responses_rules import SEAL

_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
}
"""The members of a request that its response repeats, with the vendor's defaults."""

ENCRYPTED = "reasoning.encrypted_content"
RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})

FAILURE = {"code": "server_error", "message": "The server had an error while processing your request."}


def parse_request(body: dict[str, Any]) -> ModelRequest:
    """Parse a responses request."""
    choice = body.get("tool_choice")
    items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    callable_tools = [tool for tool in body.get("tools") or () if tool["type"] in {"function", "custom"}]
    return ModelRequest(
        model=body["model"],
        prompt="\n".join(text_of(item["content"]) for item in items if "content" in item),
        user=body.get("user") or "",
        stream=bool(body.get("stream")),
        tools=()
        if choice == "none"
        else tuple(Tool(name=tool["name"], schema=tool.get("parameters")) for tool in callable_tools),
        is_forced=is_forcing(choice),
        forced_tool=choice.get("name") if isinstance(choice, dict) else None,
        is_parallel=body.get("parallel_tool_calls") is not False,
        schema=schema_of((body.get("text") or {}).get("format"), None),
        thinks=True,
        shows_thinking=bool((body.get("reasoning") or {}).get("summary")),
        results=_results(items),
        all_results=sum(item.get("type") in RESULTS for item in items),
    )


def _results(items: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the tool results at the end of the input."""
    found: list[str] = []
    for item in reversed(items):
        if item.get("type") not in RESULTS:
            break
        found.append(text_of(item["output"]))
    return tuple(reversed(found))


def usage_json(usage: Usage) -> dict[str, Any]:
    """Return the usage as the vendor reports it."""
    return {
        "input_tokens": usage.tokens_in,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.written},
        "output_tokens": usage.tokens_out,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.tokens_in + usage.tokens_out,
    }


def whole(answer: Answer) -> dict[str, Any]:
    """Return the response in one piece."""
    status = _status(answer)
    items = [*_tool_items(answer), *_items(answer, status)]
    return _response(answer, status, items, usage_json(answer.usage))


def count_tokens(answer: Answer) -> dict[str, Any]:
    """Return the number of tokens that the request would be charged for."""
    return {"object": "response.input_tokens", "input_tokens": answer.usage.tokens_in}


def compact(answer: Answer) -> dict[str, Any]:
    """Return the conversation, compacted."""
    item = {"id": f"cmp_{answer.plan.digest[:24]}", "type": "compaction", "encrypted_content": answer.plan.digest}
    return {
        "id": f"resp_{answer.plan.digest[:24]}",
        "object": "response.compaction",
        "created_at": CREATED_S,
        "output": [item],
        "usage": usage_json(answer.usage),
    }


def stored(response_id: str, method: str, below: str) -> dict[str, Any]:
    """Return what a call about a stored response returns. `below` is the path behind the response's own."""
    match (method, below):
        case ("DELETE", ""):
            return {"id": response_id, "object": "response", "deleted": True}
        case ("GET", "input_items"):
            part = {"type": "input_text", "text": "hello"}
            item = {"id": "msg_in", "type": "message", "role": "user", "status": "completed", "content": [part]}
            return {"object": "list", "data": [item], "first_id": "msg_in", "last_id": "msg_in", "has_more": False}
        case _:
            return _ECHOED | {
                "id": response_id,
                "object": "response",
                "created_at": CREATED_S,
                "status": "cancelled" if below else "completed",
                "error": None,
                "incomplete_details": None,
                "model": "gpt-4o-mini-2024-07-18",
                "output": [],
                "usage": None if below else usage_json(Usage(tokens_in=10, tokens_out=5)),
            }


def kept(answer: Answer, status: str) -> dict[str, Any]:
    """Return a response that is kept: with the usage so far, once nothing more comes."""
    is_over = status not in {"in_progress", "queued"}
    return _response(answer, status, _items(answer, status), usage_json(answer.usage) if is_over else None)


def frames(answer: Answer) -> Iterator[Frame]:
    """Yield the response as a stream of numbered events: each item and part with its start, deltas and end."""
    numbers = count()

    def event(kind: str, *, counts: bool = False, **fields: Any) -> Frame:
        data = sse({"type": f"response.{kind}", "sequence_number": next(numbers)} | fields, f"response.{kind}")
        return Frame(data=data, is_delta=counts)

    yield event("created", response=_response(answer, "in_progress", [], None))
    yield event("in_progress", response=_response(answer, "in_progress", [], None))
    status = _status(answer)
    items = _items(answer, status)
    calls = iter(answer.plan.calls)
    for index, item in enumerate(items):
        place = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "message":
            begun: dict[str, Any] = {"status": "in_progress", "content": []}
            inner = _text_events(answer, item)
        elif item["type"] == "reasoning":
            begun = {"summary": []} | ({"encrypted_content": None} if "encrypted_content" in item else {})
            inner = _thinking_events(answer)
        else:
            begun = {"status": "in_progress", "input" if item["type"] == "custom_tool_call" else "arguments": ""}
            inner = _call_events(next(calls))
        yield event("output_item.added", output_index=index, item=item | begun)
        for kind, fields in inner:
            yield event(kind, counts=kind.endswith(".delta"), **place, **fields)
        yield event("output_item.done", output_index=index, item=item)
    counted = None if answer.plan.words.nousage else usage_json(answer.usage)
    tools = _tool_items(answer)
    for index, item in enumerate(tools, start=len(items)):
        yield event("output_item.done", output_index=index, item=item)
    yield event(status, response=_response(answer, status, [*items, *tools], counted))


def stream_error(answer: Answer, sent: int) -> bytes:
    """Return the vendor's error inside a stream: an error event, then the failed response. `sent` counts frames."""
    failed = _response(answer, "failed", [], None)
    error = FAILURE | {"message": unquote(answer.plan.words.message) or FAILURE["message"]}
    return sse({"type": "error", "sequence_number": sent, "param": None} | error, "error") + sse(
        {"type": "response.failed", "sequence_number": sent + 1, "response": failed}, "response.failed"
    )


def _text_events(answer: Answer, item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    (part,) = item["content"]
    place = {"content_index": 0}
    if answer.plan.words.refuse:
        yield "content_part.added", place | {"part": part | {"refusal": ""}}
        for text in answer.plan.text_deltas():
            yield "refusal.delta", place | {"delta": text}
        yield "refusal.done", place | {"refusal": part["refusal"]}
        yield "content_part.done", place | {"part": part}
        return
    yield "content_part.added", place | {"part": part | {"text": ""}}
    for text in answer.plan.text_deltas():
        yield "output_text.delta", place | {"delta": text, "logprobs": []}
    yield "output_text.done", place | {"text": part["text"], "logprobs": []}
    yield "content_part.done", place | {"part": part}


def _thinking_events(answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
    place, text = {"summary_index": 0}, answer.plan.thinking
    if not text:
        return
    yield "reasoning_summary_part.added", place | {"part": {"type": "summary_text", "text": ""}}
    for piece in answer.plan.thinking_deltas():
        yield "reasoning_summary_text.delta", place | {"delta": piece}
    yield "reasoning_summary_text.done", place | {"text": text}
    yield "reasoning_summary_part.done", place | {"part": {"type": "summary_text", "text": text}}


def _call_events(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    if call.is_text:
        for piece in argument_deltas(call):
            yield "custom_tool_call_input.delta", {"delta": piece}
        yield "custom_tool_call_input.done", {"input": call.arguments}
        return
    for piece in argument_deltas(call):
        yield "function_call_arguments.delta", {"delta": piece}
    yield "function_call_arguments.done", {"name": call.name, "arguments": call.arguments}


def _items(answer: Answer, status: str) -> list[dict[str, Any]]:
    plan = answer.plan
    if not plan.calls:
        part: dict[str, Any] = {"type": "output_text", "text": plan.text, "annotations": [], "logprobs": []}
        if plan.words.refuse:
            part = {"type": "refusal", "refusal": plan.text}
        message = {"id": f"msg_{plan.digest[:24]}", "type": "message", "role": "assistant"}
        return [*_thinking_items(answer), message | {"status": status, "content": [part]}]
    return [*_thinking_items(answer), *(_call_item(call, status) for call in plan.calls)]


def _thinking_items(answer: Answer) -> list[dict[str, Any]]:
    """Return the thinking, if the request asks for it: encrypted, or its summary."""
    plan, is_sealed = answer.plan, ENCRYPTED in (answer.body.get("include") or ())
    if not is_sealed and not plan.thinking:
        return []
    item = {"id": f"rs_{plan.digest[:24]}", "type": "reasoning"}
    item |= {"summary": [{"type": "summary_text", "text": plan.thinking}] if plan.thinking else []}
    return [item | ({"encrypted_content": f"{SEAL}{plan.digest}"} if is_sealed else {})]


def _call_item(call: Call, status: str) -> dict[str, Any]:
    common = {"call_id": f"call_{call.number}", "name": call.name, "status": status}
    if call.is_text:
        return {"id": f"ctc_{call.number}", "type": "custom_tool_call", "input": call.arguments} | common
    return {"id": f"fc_{call.number}", "type": "function_call", "arguments": call.arguments} | common


def _tool_items(answer: Answer) -> list[dict[str, Any]]:
    """Return the calls of hosted tools: each search, and a page that was opened after it, which costs nothing."""
    words = answer.plan.words
    calls: list[dict[str, Any]] = []
    for _ in range(words.searches):
        calls += [
            {"type": "web_search_call", "action": {"type": "search", "query": "x"}},
            {"type": "web_search_call", "action": {"type": "open_page", "url": "https://example.com"}},
        ]
    calls += [{"type": "file_search_call", "queries": ["x"], "results": None}] * words.files
    for number in range(words.containers):
        calls += [{"type": "code_interpreter_call", "container_id": f"cntr_{number}", "code": "1", "outputs": None}] * 2
    return [{"id": f"call_{number}", "status": "completed"} | call for number, call in enumerate(calls)]


def _status(answer: Answer) -> str:
    """Return the response's status: incomplete if the prompt sets a reason, such as max_output_tokens."""
    finish = answer.plan.words.finish
    return finish if finish == "failed" else "incomplete" if finish else "completed"


def _response(
    answer: Answer, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the response, with the members of the request and the vendor's defaults for the others."""
    echoed = {name: answer.body.get(name, default) for name, default in _ECHOED.items()}
    is_cut_short = status == "incomplete"
    return echoed | {
        "id": unquote(answer.plan.words.id) or f"resp_{answer.plan.digest[:24]}",
        "object": "response",
        "created_at": CREATED_S,
        "status": status,
        "error": FAILURE if status == "failed" else None,
        "incomplete_details": {"reason": answer.plan.words.finish} if is_cut_short else None,
        "model": f"{answer.request.model}-2024-07-18",
        "output": output,
        "service_tier": answer.plan.words.tier or "default",
        "usage": usage,
    }
