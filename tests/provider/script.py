"""A script for an agent's model: a list of steps, one for each turn, in the steering word `steps`.

The step is chosen by the number of tool results in the request, so that the same request has the same response: nothing
is remembered between requests, and a request that is sent again gets the step that it got before.
"""

from typing import Any
from urllib.parse import quote

from msgspec import Struct
from msgspec import json as msgspec_json


class Step(Struct, frozen=True, kw_only=True):
    """A turn of the model: it calls tools, or it says something and ends."""

    tool: str = ""
    """The tool to call; empty if the turn is a text."""
    arguments: dict[str, Any] = {}
    text: str | None = None
    """For a tool that takes text instead of JSON."""
    say: str = ""
    otherwise: "Step | None" = None
    """The step to take if the tool is not offered: agents offer other tools to other models."""


def steps_word(*steps: Step) -> str:
    """Return the steering word for a prompt."""
    return f"[[steps={quote(msgspec_json.encode(steps), safe='')}]]"


def step_at(steps: str, done: int, offered: set[str]) -> Step:
    """Return the step after `done` tool results; the last one stands for all after it.

    A request that does not offer the step's tool is none of the agent's turns (it may ask for a title): it gets a text.
    """
    script = msgspec_json.decode(steps, type=list[Step])
    step = script[min(done, len(script) - 1)]
    while step.otherwise is not None and step.tool not in offered:
        step = step.otherwise
    return step if not step.tool or step.tool in offered else Step(say="beside the script")
