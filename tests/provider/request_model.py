"""What a request asks of the model, whichever wire it came by, and the answer that is planned for it.

The plan is a pure function of the request: an answer in one piece and a stream say the same.
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

from msgspec import UNSET, Struct

from tests.provider.bill import Usage
from tests.provider.schema import example
from tests.provider.steering import DEFAULT_DELTAS, Steering

THINKING_DELTAS = 3
_MULTI_BYTE = " äöü € 😀"
_DEFAULT_ARGUMENTS = {"a": 1}


class Tool(Struct, frozen=True, kw_only=True):
    """A tool that the request brings. `schema` is None where it takes no arguments in JSON."""

    name: str
    schema: dict[str, Any] | None


class RequestContext(Struct, frozen=True, kw_only=True):
    """A request, without its wire."""

    model: str
    prompt: str
    user: str = ""
    """On whose behalf is asked."""
    stream: bool = False
    tools: tuple[Tool, ...] = ()
    is_forced: bool = False
    """Whether some tool must be called."""
    forced_tool: str | None = None
    """Whether it must be this one."""
    is_parallel: bool = True
    schema: Any = UNSET
    """The answer's JSON schema; unset where it is plain text."""
    results: tuple[str, ...] = ()
    """What the tools have said, when it is to be answered now."""
    talks_while_calling: bool = False
    """Whether this vendor's models say something beside the calls that they ask for."""
    thinks: bool = False
    shows_thinking: bool = True


class Call(Struct, frozen=True, kw_only=True):
    """A tool to be called. `number` counts from 1; `arguments` are JSON."""

    number: int
    name: str
    arguments: str


class Plan(Struct, frozen=True, kw_only=True):
    """What will be said."""

    digest: str
    """Of the prompt: ids are made of it."""
    text: str
    calls: tuple[Call, ...]
    thinking: str
    words: Steering

    def text_deltas(self) -> list[str]:
        """The text, as a stream sends it."""
        return pieces(self.text, self.words.chunks)

    def thinking_deltas(self) -> list[str]:
        """The thinking, as a stream sends it."""
        return pieces(self.thinking, THINKING_DELTAS)

    @property
    def deltas(self) -> int:
        """How many deltas a stream sends in all."""
        of_calls = sum(len(argument_deltas(call)) for call in self.calls)
        return len(self.text_deltas()) + len(self.thinking_deltas()) + of_calls


class Frame(Struct, frozen=True, kw_only=True):
    """An event of a stream, as its wire frames it. A delta counts as one token."""

    data: bytes
    is_delta: bool = False


class Answer(Struct, frozen=True, kw_only=True):
    """What a wire makes an answer of: the request (`body` is its JSON), the plan, and the usage that is reported."""

    body: dict[str, Any]
    asked: RequestContext
    plan: Plan
    usage: Usage


def argument_deltas(call: Call) -> list[str]:
    """A call's arguments, as a stream sends them."""
    return pieces(call.arguments, DEFAULT_DELTAS)


def pieces(text: str, count: int) -> list[str]:
    """The text in so many parts, none of them empty."""
    count = min(count, len(text))
    bounds = [len(text) * n // count for n in range(count + 1)] if count else []
    return [text[start:end] for start, end in pairwise(bounds)]


def plan(asked: RequestContext, words: Steering) -> Plan:
    """Decide what is said."""
    digest = hashlib.sha256(asked.prompt.encode()).hexdigest()
    calls = tuple(_calls(asked, words, digest))
    return Plan(
        digest=digest,
        text=_text(asked, words, digest) if asked.talks_while_calling or not calls else "",
        calls=calls,
        thinking=f"thinking about {digest[:16]}" if asked.thinks and asked.shows_thinking else "",
        words=words,
    )


def _text(asked: RequestContext, words: Steering, digest: str) -> str:
    """An answer from which its prompt can be told."""
    if words.text is not None:
        return words.text
    text = f"answer to {digest[:16]}"
    if asked.schema is not UNSET:
        return json.dumps(example(asked.schema, text), ensure_ascii=False)
    if asked.results:
        text += f": the tools said {'; '.join(asked.results)}"
    text += "x" * words.big
    if words.split is not UNSET:
        text += _MULTI_BYTE
    return text.ljust(words.chunks, "x")


def _calls(asked: RequestContext, words: Steering, digest: str) -> Iterator[Call]:
    if asked.results:
        return
    schemas = {tool.name: tool.schema for tool in asked.tools}
    names = [asked.forced_tool] if asked.forced_tool else list(schemas)
    if words.tool is not UNSET:
        names = [words.tool]
    elif not asked.is_forced and words.calls is UNSET:
        return
    count = 1 if words.calls is UNSET or not asked.is_parallel else words.calls
    for n in range(count if names else 0):
        name = names[n % len(names)]
        schema = schemas.get(name)
        arguments = _DEFAULT_ARGUMENTS if schema is None else example(schema, f"argument {n + 1} {digest[:16]}")
        written = json.dumps(arguments, ensure_ascii=False) if words.arguments is UNSET else unquote(words.arguments)
        yield Call(number=n + 1, name=name, arguments=written)


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or parts of which some have a text."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or ())
