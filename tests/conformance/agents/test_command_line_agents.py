"""Agents do their work through the gateway: on their own vendor's models, and on the other's.

The model is a script: it reads a note, edits it, runs a command and ends. Beside the outcome, every request that the
provider received must be one that the vendor would answer.
"""

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.agents.conftest import Runner
from tests.provider.script import Step
from tests.support.agents.command_line import (
    AIDER,
    CLAUDE_CODE,
    CLINE,
    CODEX,
    EDITED,
    OPENCODE,
    PI,
    QWEN_CODE,
    Agent,
)
from tests.support.sdk_clients import Project

CORE = (CLAUDE_CODE, CODEX)
"""The agents of every test run. `make agents` runs the others too."""
CLAUDE = "claude-sonnet-4-5"
DONE = "all is done"
LONG = 30
PER_MINUTE = 12
"""A rate whose next request is allowed after 5 s."""


def case(agent: Agent, model: str, *rest: Any) -> Any:
    """Return a parameter that is run with all tests only if its agent is one of the core."""
    marks = [] if agent in CORE else [pytest.mark.agents]
    return pytest.param(agent, model, *rest, marks=marks, id=f"{agent.name} on {model}")


TOOL_USERS = [
    *(case(CLAUDE_CODE, model) for model in (CLAUDE, "gpt-5", "gpt-4o", "gpt-6-astra")),
    *(case(CODEX, model) for model in ("gpt-5", CLAUDE)),
    *(case(agent, model) for agent in (OPENCODE, CLINE, QWEN_CODE, PI) for model in ("gpt-5", "gpt-4o", CLAUDE)),
]
ONE_EACH = [
    *(case(CLAUDE_CODE, "gpt-5"), case(CODEX, CLAUDE), case(OPENCODE, CLAUDE), case(CLINE, CLAUDE)),
    *(case(QWEN_CODE, CLAUDE), case(PI, CLAUDE)),
]


def work(agent: Agent, note: Path) -> tuple[Step, ...]:
    """Return the steps of the work."""
    return agent.read(note), agent.edit(note), agent.shell(f"cat {note}"), Step(say=DONE)


@pytest.mark.parametrize(("agent", "model"), TOOL_USERS)
def test_a_note_is_edited_in_several_turns(runner: Runner, agent: Agent, model: str) -> None:
    run = runner.agent(agent, model, *work(agent, runner.note))
    assert (run.outcome.exit_code, run.outcome.note) == (0, EDITED), run.outcome.told
    assert DONE in run.outcome.told
    last = json.dumps(run.turns()[-1])
    assert last.index("hello world") < last.index("hello there"), "the results are in their order"


@pytest.mark.agents
@pytest.mark.parametrize("model", ["gpt-5", "gpt-4o", CLAUDE])
def test_aider_edits_a_note(runner: Runner, model: str) -> None:
    run = runner.agent(AIDER, model, AIDER.edit(runner.note))
    assert (run.outcome.exit_code, run.outcome.note) == (0, EDITED), run.outcome.told
    assert run.requests()


@pytest.mark.parametrize(("agent", "model"), [*TOOL_USERS[:6], *ONE_EACH[2:]])
def test_a_budget_of_two_and_a_half_dollars_is_enough(
    runner: Runner, project: Project, agent: Agent, model: str
) -> None:
    key = project.issue(dailyBudget=2.5, rateLimit=None)["apiKey"]
    run = runner.agent(agent, model, *work(agent, runner.note), key=key)
    assert (run.outcome.exit_code, run.outcome.note) == (0, EDITED), run.outcome.told


@pytest.mark.parametrize(("agent", "model"), [case(CLAUDE_CODE, CLAUDE), *ONE_EACH])
def test_a_budget_that_has_ended_ends_the_run(runner: Runner, project: Project, agent: Agent, model: str) -> None:
    key = project.issue(dailyBudget=0, rateLimit=None)["apiKey"]
    run = runner.agent(agent, model, *work(agent, runner.note), key=key)
    assert run.outcome.exit_code not in {0, None}, run.outcome.told
    assert "budget" in run.outcome.told or "uota exceeded" in run.outcome.told, run.outcome.told
    assert run.requests() == []


@pytest.mark.parametrize(("agent", "model"), ONE_EACH)
def test_a_rate_limit_is_waited_for(runner: Runner, project: Project, agent: Agent, model: str) -> None:
    key = project.issue(rateLimit=PER_MINUTE)["apiKey"]
    runner.use_up(key)
    run = runner.agent(agent, model, Step(say=DONE), key=key)
    assert run.outcome.exit_code == 0, run.outcome.told


@pytest.mark.parametrize(
    ("agent", "model"),
    [
        *(case(CLAUDE_CODE, CLAUDE), case(CLAUDE_CODE, "gpt-5"), case(CODEX, "gpt-5"), case(CODEX, CLAUDE)),
        *(case(OPENCODE, CLAUDE), case(QWEN_CODE, CLAUDE), case(PI, CLAUDE)),  # Cline ends its task instead
    ],
)
def test_a_stream_that_is_cut_is_asked_for_again(runner: Runner, agent: Agent, model: str) -> None:
    run = runner.agent(agent, model, *work(agent, runner.note), words=f"[[cutonce=3/{runner.name}]]")
    assert (run.outcome.exit_code, run.outcome.note) == (0, EDITED), run.outcome.told


@pytest.mark.parametrize(("agent", "model"), ONE_EACH)
def test_a_refusal_of_the_provider_is_behind_the_gateway(runner: Runner, agent: Agent, model: str) -> None:
    run = runner.agent(agent, model, *work(agent, runner.note), words="[[once=429]]")
    assert (run.outcome.exit_code, run.outcome.note) == (0, EDITED), run.outcome.told


@pytest.mark.parametrize(("agent", "model"), ONE_EACH)
def test_a_history_of_thirty_turns_is_carried(runner: Runner, agent: Agent, model: str) -> None:
    steps = [agent.shell(f"echo turn-{n:02}") for n in range(LONG)]
    run = runner.agent(agent, model, *steps, Step(say=DONE))
    assert run.outcome.exit_code == 0, run.outcome.told
    last = json.dumps(run.turns()[-1])
    places = [last.find(f"turn-{n:02}", last.find(f"turn-{n:02}") + 1) for n in range(LONG)]
    assert places == sorted(places), "every call has its result, in order"


PICTURES = [
    pytest.param(agent, model, by, marks=[] if agent in CORE else [pytest.mark.agents], id=f"{agent.name} on {model}")
    for agent, model, by in (
        (CLAUDE_CODE, CLAUDE, "tool"),
        (CLAUDE_CODE, "gpt-4o", "tool"),
        (CODEX, "gpt-5", "attached"),
        (CODEX, CLAUDE, "attached"),
        (OPENCODE, CLAUDE, "attached"),
        (OPENCODE, "gpt-4o", "tool"),
        (PI, CLAUDE, "attached"),
        (PI, "gpt-4o", "tool"),
    )
]


@pytest.mark.parametrize(("agent", "model", "by"), PICTURES)
def test_a_picture_is_shown_to_the_model(runner: Runner, agent: Agent, model: str, by: str, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(png())
    steps = [agent.read(picture)] if by == "tool" else []
    attached = (picture,) if by == "attached" else ()
    run = runner.agent(agent, model, *steps, Step(say=DONE), attached=attached)
    assert run.outcome.exit_code == 0, run.outcome.told
    assert parts(run.turns()[-1], PICTURE_KINDS), "no picture reached the provider"


@pytest.mark.parametrize(
    ("agent", "model"), [case(CLAUDE_CODE, CLAUDE), case(CLAUDE_CODE, "gpt-4o"), case(OPENCODE, CLAUDE)]
)
def test_a_pdf_is_shown_to_the_model(runner: Runner, agent: Agent, model: str, tmp_path: Path) -> None:
    document = tmp_path / "document.pdf"
    document.write_bytes(PDF)
    steps = [agent.read(document)] if agent is CLAUDE_CODE else []
    attached = () if agent is CLAUDE_CODE else (document,)
    run = runner.agent(agent, model, *steps, Step(say=DONE), attached=attached)
    assert run.outcome.exit_code == 0, run.outcome.told
    assert parts(run.turns()[-1], DOCUMENT_KINDS), "no document reached the provider"


PICTURE_KINDS = {"image", "image_url", "input_image"}
DOCUMENT_KINDS = {"document", "file", "input_file"}


def parts(value: Any, kinds: set[str]) -> list[dict[str, Any]]:
    """Return the parts of these kinds in a request, wherever they are."""
    if isinstance(value, dict):
        inner = [part for one in value.values() for part in parts(one, kinds)]
        return [value, *inner] if value.get("type") in list(kinds) else inner
    return [part for one in value for part in parts(one, kinds)] if isinstance(value, list) else []


def png(width: int = 64, height: int = 48) -> bytes:
    """Return a picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\x20\x80\xc0" * width for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PDF = base64.b64decode(
    b"JVBERi0xLjQKMSAwIG9iago8PC9UeXBlL0NhdGFsb2cvUGFnZXMgMiAwIFI+PgplbmRvYmoKMiAwIG9iago8PC9UeXBlL1BhZ2VzL0tpZHNb"
    b"MyAwIFJdL0NvdW50IDE+PgplbmRvYmoKMyAwIG9iago8PC9UeXBlL1BhZ2UvUGFyZW50IDIgMCBSL01lZGlhQm94WzAgMCAyMDAgMjAwXT4+"
    b"CmVuZG9iagp0cmFpbGVyCjw8L1Jvb3QgMSAwIFI+PgolJUVPRgo="
)
"""A document of one empty page."""
