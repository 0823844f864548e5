"""Measures what a stream's pieces cost: CPU microseconds per chunk of everything on the way from provider to client."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import msgspec

from domain.dialects.anthropic.stream_reader import AnthropicMessagesReader
from domain.dialects.anthropic.stream_writer import AnthropicMessagesWriter
from domain.dialects.native.stream import NativeWriter
from domain.dialects.openai.responses_api import ResponsesReader
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.openai.stream_writer import OpenAiChatWriter
from domain.dialects.passthrough.json_edit import without_usage
from domain.dialects.sse import SseEvent, SseParser, sse

OPENAI = {
    "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz",
    "object": "chat.completion.chunk",
    "created": 1_794_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
    "choices": [{"index": 0, "delta": {"content": " hello"}, "logprobs": None, "finish_reason": None}],
    "usage": None,
    "obfuscation": "abcdefgh",
}
ANTHROPIC_START = {
    "type": "message_start",
    "message": {
        "id": "msg_0123456789",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    },
}
ANTHROPIC_BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
ANTHROPIC = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " hello"}}
RESPONSES = {
    "type": "response.output_text.delta",
    "sequence_number": 7,
    "item_id": "msg_0123456789",
    "output_index": 0,
    "content_index": 0,
    "delta": " hello",
    "logprobs": [],
    "obfuscation": "abcdefgh",
}


def event_of(body: dict[str, Any], name: str | None = None) -> SseEvent:
    (event,) = SseParser().feed(sse(msgspec.json.encode(body), name))
    return event


def started(reader: AnthropicMessagesReader) -> AnthropicMessagesReader:
    for body in (ANTHROPIC_START, ANTHROPIC_BLOCK):
        reader.take(event_of(body, body["type"]))
    return reader


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--chunks", type=int, default=100_000)
    chunks = arguments.parse_args().chunks
    openai, anthropic = event_of(OPENAI), event_of(ANTHROPIC, "content_block_delta")
    responses = event_of(RESPONSES, RESPONSES["type"])
    (canonical,) = OpenAiChatReader(model="m").take(openai)
    rows: list[tuple[str, Callable[[Any], Any], Any]] = [
        ("parse, openai", SseParser().feed, openai.raw),
        ("parse, anthropic", SseParser().feed, anthropic.raw),
        ("parse, 20 in one piece, each", SseParser().feed, openai.raw * 20),
        ("read openai, pass through", OpenAiChatReader().take, openai),
        ("read openai, canonical", OpenAiChatReader(model="m").take, openai),
        ("read anthropic, pass through", started(AnthropicMessagesReader()).take, anthropic),
        ("read anthropic, canonical", started(AnthropicMessagesReader(model="m")).take, anthropic),
        ("read responses", ResponsesReader().take, responses),
        ("without usage", without_usage, openai),
        ("write openai", OpenAiChatWriter(created_s=1).write, canonical),
        ("write anthropic", AnthropicMessagesWriter().write, canonical),
        ("write native", NativeWriter().write, canonical),
    ]
    for name, step, given in rows:
        each = 20 if name.startswith("parse, 20") else 1
        began = time.process_time()
        for _ in range(chunks // each):
            step(given)
        print(f"{name:32} {(time.process_time() - began) / chunks * 1e6:6.2f} µs per chunk")


if __name__ == "__main__":
    main()
