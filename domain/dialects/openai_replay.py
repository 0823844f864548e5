"""A chat completion that is known whole, as the stream that OpenAI would have sent."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from domain.canonical.stream import pieces
from domain.dialects.openai_writer import END
from domain.dialects.sse import sse
from domain.dialects.streamed import compact, decoded

_CHOICE = frozenset({"index", "message", "logprobs", "finish_reason"})
_EVERY_CHUNK_HAS = ("id", "created", "model", "service_tier", "system_fingerprint")
_NULL = Raw(b"null")


class _Completion(Struct, frozen=True):
    choices: list[dict[str, Raw]]
    usage: Raw = _NULL


_decode = msgspec.json.Decoder(_Completion).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_calls = msgspec.json.Decoder(list[dict[str, Raw]] | None).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


def replay_openai(body: bytes, *, include_usage: bool) -> list[bytes]:
    """The events of a chat completion, each member of which comes back with what every SDK assembles.

    Raises:
        UnreadableResponse: the body is no chat completion.

    """
    body = compact(body)
    whole = decoded(_decode, body)
    members = decoded(_decode_members, body)
    frame = {name: members[name] for name in _EVERY_CHUNK_HAS if name in members}
    frame["object"] = Raw(b'"chat.completion.chunk"')
    once = {name: value for name, value in members.items() if name not in frame and name not in {"choices", "usage"}}
    if include_usage:
        frame["usage"] = _NULL
    events: list[bytes] = []
    for choice in whole.choices:
        for chunk_choice in _choice_pieces(choice):
            events.append(sse(_encode(frame | once | {"choices": [chunk_choice]})))
            once = {}
    if include_usage:
        events.append(sse(_encode(frame | once | {"choices": [], "usage": whole.usage})))
    return [*events, END]


def _choice_pieces(choice: dict[str, Raw]) -> Iterator[dict[str, Any]]:
    """The deltas of a choice: its probabilities go with the first text, members that are not known here with the first
    delta, where the SDK looks for them, and the finish reason with the last.
    """
    index = choice.get("index", Raw(b"0"))
    others = {name: value for name, value in choice.items() if name not in _CHOICE}
    logprobs = choice.get("logprobs", _NULL)
    for delta in _deltas(decoded(_decode_members, bytes(choice.get("message", _NULL)))):
        has_text = bool(delta.get("content") or delta.get("refusal"))
        said = logprobs if has_text else None
        yield others | {"index": index, "delta": delta, "logprobs": said, "finish_reason": None}
        others = {}
        if has_text:
            logprobs = _NULL
    finish_reason = choice.get("finish_reason", _NULL)
    yield {"index": index, "delta": {}, "logprobs": logprobs, "finish_reason": finish_reason}


def _deltas(message: dict[str, Raw]) -> Iterator[dict[str, Any]]:
    """Role and nulls, then other texts (thinking comes before what it leads to), the content, and the rest."""
    calls = decoded(_decode_calls, bytes(message.get("tool_calls", _NULL)))
    texts: dict[str, str] = {}
    others: dict[str, Raw] = {}
    first: dict[str, Any] = {}
    for name, raw in message.items():
        value = bytes(raw)
        if name == "role" or value == b"null":
            first[name] = raw
        elif value.startswith(b'"'):
            texts[name] = decoded(_decode_text, value)
        elif name != "tool_calls" or not calls:
            others[name] = raw
    content = texts.pop("content", None)
    if content is not None:
        first["content"] = ""
        texts["content"] = content
    yield first
    for name, text in texts.items():
        for piece in pieces(text):
            yield {name: piece}
    if others:
        yield others
    for position, call in enumerate(calls or ()):
        yield from _call_deltas(position, call)


def _call_deltas(position: int, call: dict[str, Raw]) -> Iterator[dict[str, Any]]:
    """A function's arguments come in pieces; a call of any other kind comes whole."""
    if "function" not in call:
        yield {"tool_calls": [{"index": position} | call]}
        return
    function = decoded(_decode_members, bytes(call["function"]))
    first, *more = pieces(decoded(_decode_text, bytes(function.get("arguments", b'""'))))
    yield {"tool_calls": [{"index": position} | call | {"function": function | {"arguments": first}}]}
    for piece in more:
        yield {"tool_calls": [{"index": position, "function": {"arguments": piece}}]}
