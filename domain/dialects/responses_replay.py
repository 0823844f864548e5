"""A response that is known whole, as the stream that OpenAI's Responses API would have sent.

Every kind of output has its own events between `output_item.added` and `output_item.done`; a kind that is not known
here has none.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from domain.canonical.stream import pieces
from domain.dialects.provider_response import UnreadableResponse
from domain.dialects.sse import sse
from domain.dialects.streamed import compact, decoded

Item = dict[str, Any]
Event = dict[str, Any]
Playing = Callable[[Item], Iterator[Event]]


class _Response(Struct, frozen=True):
    output: list[dict[str, Any]]
    status: str | None = None


_decode = msgspec.json.Decoder(_Response).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


def replay_responses(body: bytes) -> list[bytes]:
    """The events of a completed or incomplete response, numbered; the last carries the response as it is.

    Raises:
        UnreadableResponse: the body is no response.

    """
    body = compact(body)
    whole = decoded(_decode, body)
    begun = decoded(_decode_members, body) | {
        "status": Raw(b'"in_progress"'),
        "output": Raw(b"[]"),
        "usage": Raw(b"null"),
        "incomplete_details": Raw(b"null"),
    }
    end = "response.incomplete" if whole.status == "incomplete" else "response.completed"
    try:
        told = [event for index, item in enumerate(whole.output) for event in _item_events(index, item)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableResponse(f"the response's output is not one: {error!r}") from error
    events: list[Event] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        *told,
        {"type": end, "response": Raw(body)},
    ]
    return [
        sse(msgspec.json.encode({"type": event["type"], "sequence_number": number} | event), event["type"])
        for number, event in enumerate(events)
    ]


def _item_events(index: int, item: Item) -> Iterator[Event]:
    kind = item.get("type", "")
    emptied = {name: empty for name, empty in _STREAMED.get(kind, {}).items() if item.get(name)}
    status = {"status": "in_progress"} if item.get("status") else {}
    yield {"type": "response.output_item.added", "output_index": index, "item": item | emptied | status}
    subject = {"output_index": index} | ({"item_id": item["id"]} if item.get("id") else {})
    for event in _PLAYED.get(kind, _nothing)(item):
        yield event | subject
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _nothing(_item: Item) -> Iterator[Event]:
    return iter(())


def _message(item: Item) -> Iterator[Event]:
    return _parts(item.get("content") or ())


def _reasoning(item: Item) -> Iterator[Event]:
    name = "response.reasoning_summary"
    for number, part in enumerate(item.get("summary") or ()):
        at = {"summary_index": number}
        yield at | {"type": f"{name}_part.added", "part": part | {"text": ""}}
        for piece in pieces(part["text"]):
            yield at | {"type": f"{name}_text.delta", "delta": piece}
        yield at | {"type": f"{name}_text.done", "text": part["text"]}
        yield at | {"type": f"{name}_part.done", "part": part}
    yield from _parts(item.get("content") or ())


def _parts(content: Any) -> Iterator[Event]:
    for number, part in enumerate(content):
        at = {"content_index": number}
        member, name = _PARTS.get(part.get("type"), ("", ""))
        if not member:
            yield at | {"type": "response.content_part.added", "part": part}
            yield at | {"type": "response.content_part.done", "part": part}
            continue
        begun = (
            part | {member: ""} | {list_name: [] for list_name in ("annotations", "logprobs") if part.get(list_name)}
        )
        logprobs: Event = {"logprobs": []} if member == "text" and "annotations" in part else {}
        yield at | {"type": "response.content_part.added", "part": begun}
        for piece in pieces(part[member]):
            yield at | {"type": f"{name}.delta", "delta": piece} | logprobs
        for position, annotation in enumerate(part.get("annotations") or ()):
            yield at | {
                "type": "response.output_text.annotation.added",
                "annotation_index": position,
                "annotation": annotation,
            }
        done = {"logprobs": part.get("logprobs") or []} if logprobs else {}
        yield at | {"type": f"{name}.done", member: part[member]} | done
        yield at | {"type": "response.content_part.done", "part": part}


def _streamed(name: str, member: str) -> Playing:
    """Of a member that comes in pieces and once more whole."""

    def play(item: Item) -> Iterator[Event]:
        text = item.get(member) or ""
        for piece in pieces(text):
            yield {"type": f"response.{name}.delta", "delta": piece}
        named = {"name": item["name"]} if name == "function_call_arguments" else {}
        yield {"type": f"response.{name}.done", member: text} | named

    return play


def _stages(name: str, *stages: str) -> Playing:
    """Of something that runs at the provider."""

    def play(item: Item) -> Iterator[Event]:
        for stage in stages:
            failed = stage == "completed" and (item.get("status") == "failed" or item.get("error"))
            yield {"type": f"response.{name}.{'failed' if failed else stage}"}

    return play


def _in_order(*playings: Playing) -> Playing:
    def play(item: Item) -> Iterator[Event]:
        for playing in playings:
            yield from playing(item)

    return play


def _shell_call(item: Item) -> Iterator[Event]:
    name = "response.shell_call_command"
    for number, command in enumerate((item.get("action") or {}).get("commands") or ()):
        at = {"command_index": number}
        yield at | {"type": f"{name}.added", "command": ""}
        for piece in pieces(command):
            yield at | {"type": f"{name}.delta", "delta": piece}
        yield at | {"type": f"{name}.done", "command": command}


_PARTS = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
}
"""Parts of a message: the member that comes in pieces, and the events that carry it."""

_STREAMED: dict[str, dict[str, Any]] = {
    "message": {"content": []},
    "reasoning": {"summary": [], "content": []},
    "function_call": {"arguments": ""},
    "custom_tool_call": {"input": ""},
    "mcp_call": {"arguments": "", "output": None},
    "code_interpreter_call": {"code": "", "outputs": None},
    "image_generation_call": {"result": None},
    "mcp_list_tools": {"tools": []},
}
"""What an item lacks when it is added."""

_PLAYED: dict[str, Playing] = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _streamed("function_call_arguments", "arguments"),
    "custom_tool_call": _streamed("custom_tool_call_input", "input"),
    "shell_call": _shell_call,
    "mcp_call": _in_order(
        _stages("mcp_call", "in_progress"),
        _streamed("mcp_call_arguments", "arguments"),
        _stages("mcp_call", "completed"),
    ),
    "mcp_list_tools": _stages("mcp_list_tools", "in_progress", "completed"),
    "web_search_call": _stages("web_search_call", "in_progress", "searching", "completed"),
    "file_search_call": _stages("file_search_call", "in_progress", "searching", "completed"),
    "image_generation_call": _stages("image_generation_call", "in_progress", "generating", "completed"),
    "code_interpreter_call": _in_order(
        _stages("code_interpreter_call", "in_progress"),
        _streamed("code_interpreter_call_code", "code"),
        _stages("code_interpreter_call", "interpreting", "completed"),
    ),
}
