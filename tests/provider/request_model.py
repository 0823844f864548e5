"""A request to the model, independent of the vendor's API, and the response that is planned for it.

The plan is a pure function of the request: a response in one piece and a stream have the same content.
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
from tests.provider.script import Step, step_at
from tests.provider.steering import DEFAULT_DELTAS, Steering

THINKING_DELTAS = 3
_MULTI_BYTE = " äöü € 😀"
_DEFAULT_ARGUMENTS = {"a": 1}


class Tool(Struct, frozen=True, kw_only=True):
    """A tool of the request. `schema` is None if the tool takes no JSON arguments."""

    name: str
    schema: dict[str, Any] | None


class ModelRequest(Struct, frozen=True, kw_only=True):
    """A request, independent of the vendor's API."""

    model: str
    prompt: str
    user: str = ""
    """The name of the end user."""
    stream: bool = False
    tools: tuple[Tool, ...] = ()
    is_forced: bool = False
    """True if the model must call a tool."""
    forced_tool: str | None = None
    """The tool that must be called, if the request names one."""
    is_parallel: bool = True
    schema: Any = UNSET
    """The JSON schema of the response; UNSET if it is plain text."""
    results: tuple[str, ...] = ()
    """The tool results that the model is to answer."""
    all_results: int = 0
    """The number of tool results in the whole conversation."""
    talks_while_calling: bool = False
    """True if this vendor's models send text beside tool calls."""
    thinks: bool = False
    shows_thinking: bool = True


class Call(Struct, frozen=True, kw_only=True):
    """A tool call. `number` counts from 1; `arguments` are JSON."""

    number: int
    name: str
    arguments: str
    is_text: bool = False
    """True if the arguments are text, for a tool that takes it."""


class Plan(Struct, frozen=True, kw_only=True):
    """The content of a response."""

    digest: str
    """The SHA-256 of the prompt, which ids are made of; of the prompt and the turn if it follows a script."""
    text: str
    calls: tuple[Call, ...]
    thinking: str
    words: Steering

    def text_deltas(self) -> list[str]:
        """Return the text, split into the deltas of a stream."""
        return pieces(self.text, self.words.chunks)

    def thinking_deltas(self) -> list[str]:
        """Return the thinking, split into the deltas of a stream."""
        return pieces(self.thinking, THINKING_DELTAS)

    @property
    def deltas(self) -> int:
        """Return the number of all deltas of a stream."""
        of_calls = sum(len(argument_deltas(call)) for call in self.calls)
        return len(self.text_deltas()) + len(self.thinking_deltas()) + of_calls


class Frame(Struct, frozen=True, kw_only=True):
    """An event of a stream, as the vendor frames it. A delta counts as one token."""

    data: bytes
    is_delta: bool = False


class Answer(Struct, frozen=True, kw_only=True):
    """The data of a response: the request (`body` is its JSON), the plan, and the usage to report."""

    body: dict[str, Any]
    request: ModelRequest
    plan: Plan
    usage: Usage


def argument_deltas(call: Call) -> list[str]:
    """Return a call's arguments, split into the deltas of a stream."""
    return pieces(call.arguments, DEFAULT_DELTAS)


def pieces(text: str, count: int) -> list[str]:
    """Split a text into at most `count` parts, none of them empty."""
    count = min(count, len(text))
    bounds = [len(text) * n // count for n in range(count + 1)] if count else []
    return [text[start:end] for start, end in pairwise(bounds)]


def plan(request: ModelRequest, words: Steering) -> Plan:
    """Decide the content of the response."""
    turn = "" if words.steps is UNSET else f" after {request.all_results} results"
    digest = hashlib.sha256(f"{request.prompt}{turn}".encode()).hexdigest()
    calls = tuple(_calls(request, words, digest))
    return Plan(
        digest=digest,
        text=_text(request, words, digest) if request.talks_while_calling or not calls else "",
        calls=calls,
        thinking=f"thinking about {digest[:16]}" if request.thinks and request.shows_thinking else "",
        words=words,
    )


def _text(request: ModelRequest, words: Steering, digest: str) -> str:
    """Return a text that identifies the prompt."""
    if words.steps is not UNSET:
        return _step(request, words.steps).say
    if words.text is not None:
        return words.text
    text = f"answer to {digest[:16]}"
    if request.schema is not UNSET:
        return json.dumps(example(request.schema, text), ensure_ascii=False)
    if request.results:
        text += f": the tools said {'; '.join(request.results)}"
    text += "x" * words.big
    if words.split is not UNSET:
        text += _MULTI_BYTE
    return text.ljust(words.chunks, "x")


def _step(request: ModelRequest, steps: str) -> Step:
    return step_at(unquote(steps), request.all_results, {tool.name for tool in request.tools})


def _scripted_calls(step: Step, done: int) -> Iterator[Call]:
    if step.tool:
        written = json.dumps(step.arguments, ensure_ascii=False) if step.text is None else step.text
        yield Call(number=done + 1, name=step.tool, arguments=written, is_text=step.text is not None)


def _calls(request: ModelRequest, words: Steering, digest: str) -> Iterator[Call]:
    if words.steps is not UNSET:
        yield from _scripted_calls(_step(request, words.steps), request.all_results)
        return
    if request.results:
        return
    schemas = {tool.name: tool.schema for tool in request.tools}
    names = [request.forced_tool] if request.forced_tool else list(schemas)
    if words.tool is not UNSET:
        names = [words.tool]
    elif not request.is_forced and words.calls is UNSET:
        return
    count = 1 if words.calls is UNSET or not request.is_parallel else words.calls
    for n in range(count if names else 0):
        name = names[n % len(names)]
        schema = schemas.get(name)
        arguments = _DEFAULT_ARGUMENTS if schema is None else example(schema, f"argument {n + 1} {digest[:16]}")
        written = json.dumps(arguments, ensure_ascii=False) if words.arguments is UNSET else unquote(words.arguments)
        yield Call(number=n + 1, name=name, arguments=written)


def text_of(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or ())
