"""Counts a request's input as a provider does: everything that the model is shown, not only the messages' texts.

Written a second time, apart from the gateway's bounds, so that these are compared with an independent count. With one
byte for each token it is the worst that a byte-level tokenizer can do.
"""

import base64
import json
from typing import Any

TOKENS_PER_MESSAGE = 8
TOKENS_WITH_TOOLS = 530
_CONVERSATION = ("messages", "input")
_TOOLS = ("tools", "functions", "response_format", "output_format", "output_config")
_INSTRUCTIONS = ("system", "instructions")
_PIXELS_PER_TOKEN, _MOST_TOKENS = 750, 1_600
_PNG = b"\x89PNG"


def input_tokens(body: dict[str, Any], bytes_per_token: int) -> int:
    """Return the tokens of a request's input, if each is so many bytes of text. Images count by their pixels."""
    found = _Found()
    for name in (*_CONVERSATION, *_INSTRUCTIONS):
        found.add(body.get(name))
    tools = [body[name] for name in _TOOLS if body.get(name)]
    text_bytes = found.text_bytes + sum(len(json.dumps(tool)) for tool in tools)  # with spaces, and all as ASCII
    messages = sum(len(body[name]) for name in _CONVERSATION if isinstance(body.get(name), list))
    overhead = TOKENS_PER_MESSAGE * messages + (TOKENS_WITH_TOOLS if tools else 0)
    return -(-text_bytes // bytes_per_token) + overhead + found.image_tokens


class _Found:
    def __init__(self) -> None:
        self.text_bytes = 0
        self.image_tokens = 0

    def add(self, value: Any) -> None:
        if isinstance(value, str):
            self.text_bytes += len(value.encode())
        elif isinstance(value, list):
            for item in value:
                self.add(item)
        elif isinstance(value, dict):
            content = _base64_of(value)
            if content is not None:
                self.image_tokens += _image_tokens(content)
            elif value.get("type") == "tool_use":
                self.text_bytes += len(json.dumps(value.get("input"))) + len(value["name"])
            else:
                for name, member in value.items():
                    if name not in {"type", "role", "id", "tool_use_id", "tool_call_id", "call_id", "cache_control"}:
                        self.add(member)


def _base64_of(part: dict[str, Any]) -> str | None:
    source, image_url = part.get("source"), part.get("image_url")
    if isinstance(source, dict) and source.get("type") == "base64":
        return str(source["data"])
    url = image_url.get("url") if isinstance(image_url, dict) else image_url
    return url.partition(",")[2] if isinstance(url, str) and url.startswith("data:") else None


def _image_tokens(content: str) -> int:
    data = base64.b64decode(content)
    if not data.startswith(_PNG):
        return _MOST_TOKENS
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return min(_MOST_TOKENS, -(-width * height // _PIXELS_PER_TOKEN))
