"""What Anthropic's own tools did in earlier turns, and what its models cited, as text for a model of another vendor."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

MAX_DEPTH = 16

_USES = frozenset({"server_tool_use", "mcp_tool_use"})
_RESULT = "_tool_result"
_READ = ("title", "url", "page_age", "text", "stdout", "stderr", "error_code", "tool_name", "data", "content", "source")
"""The members of a result that can be read, in the order that they are said. Others are encrypted, or ids."""
_HELD = ("tool_references", "lines")
_CITED = ("title", "document_title", "url", "source")

_encode = msgspec.json.encode


def is_server_tools(kind: object) -> bool:
    """True for a block that one of Anthropic's own tools was called with, or that it gave."""
    return isinstance(kind, str) and (kind in _USES or kind.endswith(_RESULT))


def server_tool_text(block: dict[str, Any]) -> str:
    """The block as text."""
    if block["type"] in _USES:
        return f"[{block.get('name', 'tool')}: {_encode(block.get('input') or {}).decode()}]"
    said = "\n".join(line for line in _lines(block.get("content"), 0) if line)
    return f"[{block['type'].removesuffix(_RESULT)} result]\n{said}"


def with_sources(text: str, citations: Any) -> str:
    """A text of the model's with the sources that it cites behind it."""
    found = [
        ", ".join(str(cited[name]) for name in _CITED if isinstance(cited.get(name), str) and cited[name])
        for cited in (citations if isinstance(citations, list) else ())
        if isinstance(cited, dict)
    ]
    sources = list(dict.fromkeys(filter(None, found)))
    return f"{text} [{'; '.join(sources)}]" if sources else text


def _lines(content: Any, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        return
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for entry in content:
            yield from _lines(entry, depth + 1)
    elif isinstance(content, dict):
        is_binary = content.get("type") == "base64"
        for name in _readable(content):
            if not (is_binary and name == "data"):
                yield from _lines(content[name], depth + 1)


def _readable(content: dict[str, Any]) -> Iterable[str]:
    return (name for name in (*_READ, *_HELD) if name in content)
