"""Frameworks work through the gateway on every surface that they can call, with either vendor's models."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.conformance.agents.conftest import Runner
from tests.conformance.agents.test_command_line_agents import PICTURE_KINDS, parts, png
from tests.provider.script import Step, steps_word
from tests.support.agents.frameworks import AI_SDK, FRAMEWORKS, LANGCHAIN_JS, OPENAI_AGENTS, Framework
from tests.support.sdk_clients import Project

CORE = (AI_SDK, LANGCHAIN_JS, OPENAI_AGENTS)
CORE_MODELS = {"messages": "gpt-4o", "responses": "claude-sonnet-4-5", "chat": "claude-sonnet-4-5"}
"""In every test run, a framework of the core is tried with the other vendor's model, where a translation is needed."""
MODELS = ("gpt-4o", "gpt-5", "claude-sonnet-4-5")
TRIP = {"city": "Zürich", "days": 3}
WORKING = ("agent", "stream")
DONE = "all is done"
"""The scenarios in which a model calls the tool twice."""


REFUSED_BY_VENDOR = {("DSPy", "messages", "claude-sonnet-4-5", "object")}
"""What the vendor itself refuses, with the gateway and without: DSPy sends Claude bounds of numbers in a schema."""


def cases() -> list[Any]:
    """Return every framework, surface, model and scenario. `make agents` runs what is not in the core."""
    return [
        pytest.param(
            *(framework, surface, model, scenario),
            id=f"{framework.name}, {surface}, {model}, {scenario}",
            marks=[] if is_core(framework, surface, model, scenario) else [pytest.mark.agents],
        )
        for framework in FRAMEWORKS
        for surface in framework.surfaces
        for model in MODELS
        for scenario in framework.scenarios
        if (framework.name, surface, model, scenario) not in REFUSED_BY_VENDOR
    ]


def is_core(framework: Framework, surface: str, model: str, scenario: str) -> bool:
    """Return whether this is tried in every test run."""
    return framework in CORE and model == CORE_MODELS.get(surface) and scenario in {"agent", "object"}


def adding(a: int, b: int) -> Step:
    """Return a call of the tool, which Semantic Kernel names after its plugin."""
    arguments = {"a": a, "b": b}
    return Step(tool="add", arguments=arguments, otherwise=Step(tool="Adding-add", arguments=arguments))


def prompt_for(framework: Framework, scenario: str) -> str:
    """Return the steering words for a scenario."""
    if scenario in WORKING:
        return steps_word(adding(1, 2), adding(3, 4), Step(say=DONE))
    written = {"trip": TRIP} if framework.name == "DSPy" else TRIP
    tool = "[[tool=Trip]]" if framework.name == "Instructor" and scenario in {"tool", "picture"} else ""
    words = quote(json.dumps(written))
    return f"[[say={words}]] [[arguments={words}]] {tool}"


@pytest.mark.parametrize(("framework", "surface", "model", "scenario"), cases())
def test_a_framework_gets_what_it_asks_for(
    runner: Runner, framework: Framework, surface: str, model: str, scenario: str
) -> None:
    outcome, asked = runner.framework(
        framework,
        prompt_for(framework, scenario),
        surface=surface,
        model=model,
        scenario=scenario,
        picture=base64.b64encode(png()).decode(),
    )
    found = outcome.get("found")
    assert found, outcome
    if scenario in WORKING:
        assert (found["said"], found["calls"]) == (DONE, ["1 + 2 = 3", "3 + 4 = 7"])
    elif "object" in found:
        assert found["object"] == TRIP
    else:
        assert "Zürich" in json.dumps(found, ensure_ascii=False) or "Z\\u00fcrich" in found["said"]
    sent = [json.loads(one.body) for one in asked.requests()]
    assert sent
    if scenario == "picture":
        assert parts(sent, PICTURE_KINDS), "no picture reached the provider"


@pytest.mark.parametrize(
    ("framework", "surface"),
    [
        pytest.param(one, surface, id=f"{one.name}, {surface}", marks=[] if one in CORE[:1] else [pytest.mark.agents])
        for one in FRAMEWORKS
        for surface in one.surfaces
    ],
)
def test_a_framework_does_not_try_an_ended_budget_again(
    runner: Runner, project: Project, framework: Framework, surface: str
) -> None:
    key = project.issue(dailyBudget=0)["apiKey"]
    scenario = framework.scenarios[0]
    outcome, asked = runner.framework(
        framework, prompt_for(framework, scenario), surface=surface, model="gpt-4o", scenario=scenario, key=key
    )
    assert "budget" in outcome["error"]["message"], outcome
    assert asked.requests() == []
