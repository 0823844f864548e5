"""Runs agents and frameworks against the run's gateway, and finds what the provider received from each."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.provider.running import RecordedRequest, RunningProvider
from tests.provider.script import Step, steps_word
from tests.support.agents import command_line
from tests.support.agents.command_line import Agent, Outcome, Setup
from tests.support.agents.frameworks import Framework
from tests.support.agents.installed import AgentMissingError, Package, install, newer_node
from tests.support.agents.vendor_rules import complaints
from tests.support.gateway import Gateway
from tests.support.sdk_clients import TIMEOUT_S

MAX_ASKED = 100
Installer = Callable[[Package, bool], Path]


@pytest.fixture(scope="session")
def installed() -> Installer:
    """Return a function that installs a package once, or skips the test with the reason why it cannot be."""
    failures: dict[str, str] = {}

    def get(package: Package, needs_newer_node: bool) -> Path:
        name = package.pins[0]
        if name not in failures:
            try:
                if needs_newer_node:
                    newer_node()
                return install(package)
            except AgentMissingError as why:
                failures[name] = str(why)
        pytest.skip(f"{name} cannot be installed here: {failures[name]}")

    return get


class Asked:
    """What the provider received from a run: the requests that carry its prompt."""

    def __init__(self, upstream: RunningProvider, mark: str) -> None:
        self._upstream = upstream
        self.mark = mark

    def requests(self) -> list[RecordedRequest]:
        """Return the model's requests, oldest first. None of them may be one that the vendor refuses."""
        found = [
            one
            for one in self._upstream.requests()
            if self.mark.encode() in one.body and not one.path.endswith("count_tokens")
        ]
        wrong = {text for one in found for text in complaints(one)}
        assert not wrong, wrong
        return found

    def turns(self) -> list[dict[str, Any]]:
        """Return the bodies of the agent's turns: the requests that offer tools."""
        bodies = [json.loads(one.body) for one in self.requests()]
        return [body for body in bodies if body.get("tools")]


class AgentRun(Asked):
    """A run of an agent that has ended."""

    outcome: Outcome


class Runner:
    """Runs agents in new folders, and frameworks."""

    def __init__(
        self, gateway: Gateway, upstream: RunningProvider, installed: Installer, key: str, folder: Path
    ) -> None:
        self._gateway = gateway
        self._upstream = upstream
        self._installed = installed
        self._key = key
        self._folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        self.name = uuid.uuid4().hex
        """A name for what happens once."""

    @property
    def note(self) -> Path:
        """Return the note that agents read and edit."""
        return self.work / command_line.NOTE

    def agent(
        self,
        agent: Agent,
        model: str,
        *steps: Step,
        words: str = "",
        key: str | None = None,
        attached: tuple[Path, ...] = (),
    ) -> AgentRun:
        """Run an agent whose model plays the steps. `words` steer the provider as well."""
        root = self._installed(agent.package, agent.needs_newer_node)
        run = AgentRun(self._upstream, f"work {uuid.uuid4().hex}")
        home = self._folder / "home"
        home.mkdir()
        setup = Setup(
            address=self._gateway.address, key=key or self._key, model=model, home=home, work=self.work, root=root
        )
        run.outcome = command_line.run(agent, setup, f"{run.mark} {steps_word(*steps)} {words}", *attached)
        return run

    def use_up(self, key: str) -> None:
        """Ask until the key's rate limit refuses."""
        asked = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
        for _ in range(MAX_ASKED):
            answer = httpx2.post(
                f"{self._gateway.address}/v1/chat/completions",
                json=asked,
                headers={"authorization": f"Bearer {key}"},
                timeout=TIMEOUT_S,
            )
            if answer.status_code == 429:
                return
        pytest.fail(f"{MAX_ASKED} requests were answered")

    def framework(self, framework: Framework, prompt: str, **options: Any) -> tuple[dict[str, Any], Asked]:
        """Run a framework's scenario. Return its outcome, and what the provider received."""
        self._installed(framework.package, not framework.package.python)
        asked = Asked(self._upstream, f"work {uuid.uuid4().hex}")
        given = {"address": self._gateway.address, "key": self._key} | options
        return framework.run(prompt=f"{asked.mark} {prompt}", **given), asked


@pytest.fixture
def runner(gateway: Gateway, upstream: RunningProvider, installed: Installer, key: str, tmp_path: Path) -> Runner:
    return Runner(gateway, upstream, installed, key, tmp_path)
