"""A gateway as a new user starts it: `gateway up` as a child process, called over HTTP."""

import json
import os
import re
import signal
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.provider.running import RunningProvider

COMMAND = str(Path(sysconfig.get_path("scripts")) / "gateway")
START_TIMEOUT_S = 240
STOP_TIMEOUT_S = 35
NEWS_S = 2
"""Until every process acts on a change: each reads again after 0.9 s."""


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without the gateway settings of the person who runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "OPENAI_", "ANTHROPIC_", "OTEL_"))
    }
    return kept | dict(extra or {})


class Gateway:
    """A running `gateway up`."""

    def __init__(self, process: "subprocess.Popen[bytes]", data_dir: Path, output: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self._output = output
        self.address = ""
        self.first_key: str | None = None
        self.shown_master_key: str | None = None
        self.master_key = ""
        """The operator's: the one that it was given, or has made for itself."""

    @classmethod
    def start(cls, data_dir: Path, *arguments: str, env: Mapping[str, str] | None = None) -> "Gateway":
        """Start a gateway on a free port, and wait for its greeting."""
        data_dir.mkdir(parents=True, exist_ok=True)
        output = data_dir.parent / f"{data_dir.name}.out"
        with output.open("wb") as out, (data_dir.parent / f"{data_dir.name}.err").open("ab") as err:
            process = subprocess.Popen(
                [COMMAND, "up", "--data-dir", str(data_dir), "--port", "0", *arguments],
                env=clean_environment(env),
                cwd=data_dir.parent,
                stdout=out,
                stderr=err,
            )
        gateway = cls(process, data_dir, output)
        try:
            gateway._wait_for_greeting()
            gateway.master_key = (env or {}).get("GATEWAY_MASTER_KEY") or (data_dir / "master.key").read_text().strip()
        except BaseException:
            gateway.stop()
            raise
        return gateway

    def _wait_for_greeting(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "Try it:" not in (text := self._output.read_text()):
            assert self.process.poll() is None, f"gateway up ended with {self.process.returncode}:\n{self.errors()}"
            assert time.monotonic() < deadline, f"no greeting:\n{self.errors()}"
            time.sleep(0.1)
        address = re.search(r"runs at (http://\S+)", text)
        assert address is not None
        self.address = address[1]
        key = re.search(r"^  (gw_live_\w+)$", text, re.MULTILINE)
        self.first_key = key[1] if key else None
        shown = re.search(r"^  (gw_master_\S+)$", text, re.MULTILINE)
        self.shown_master_key = shown[1] if shown else None

    def greeting(self) -> str:
        """Return its standard output."""
        return self._output.read_text()

    def errors(self) -> str:
        """Return its standard error."""
        return (self.data_dir.parent / f"{self.data_dir.name}.err").read_text(errors="replace")

    def processes(self, command: str) -> list[psutil.Process]:
        """Return its processes that have `gateway <command>` in their command line."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if f"gateway {command}" in command_line(child)]

    def tree(self) -> list[psutil.Process]:
        """Return its process and all descendants."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def kill_all(self) -> None:
        """Kill its process and all descendants as one: none sees another die."""
        everything = self.tree()
        for how in (signal.SIGSTOP, signal.SIGKILL):
            for process in everything:
                with suppress(psutil.NoSuchProcess):  # a server's process may end by itself
                    process.send_signal(how)
        self.process.wait(STOP_TIMEOUT_S)
        psutil.wait_procs(everything, timeout=STOP_TIMEOUT_S)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop the gateway, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(STOP_TIMEOUT_S)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another `gateway` command against this gateway."""
        return subprocess.run(
            [COMMAND, *arguments, "--data-dir", str(self.data_dir)],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def command_line(process: psutil.Process) -> str:
    """Return a process's command line; empty if it has just ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


class Client:
    """A caller with a key."""

    def __init__(self, session: aiohttp.ClientSession, address: str, key: str | None) -> None:
        self._session = session
        self._address = address
        self.key = key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Call the native API. Return the status, the JSON with exact decimals, and the headers."""
        async with self._session.request(
            method, f"{self._address}/api/v1{path}", json=body, headers=self._headers | headers
        ) as answer:
            return answer.status, await answer.json(loads=exact_json), answer.headers

    async def chat(self, prompt: str, **fields: Any) -> tuple[int, Any, Mapping[str, str]]:
        """Send a chat to gpt-4o-mini, or to the model in `fields`."""
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}]} | fields
        return await self.call("POST", "/completions/chat", body)


def exact_json(text: str) -> Any:
    """Decode JSON, with decimals instead of floats."""
    return json.loads(text, parse_float=Decimal)


def environment_for(provider: RunningProvider) -> dict[str, str]:
    """Return the environment variables that connect a gateway to the test provider.

    Its circuits are off: tests make the one provider fail that they all share. Those of circuits switch them on.
    """
    return {
        "GATEWAY_CIRCUIT_BREAKER": "no",
        "OPENAI_API_KEY": "sk-test-openai-canary",
        "ANTHROPIC_API_KEY": "sk-test-anthropic-canary",
        "OPENAI_BASE_URL": provider.openai_base_url,
        "ANTHROPIC_BASE_URL": provider.anthropic_base_url,
        "GATEWAY_ALLOW_LOOPBACK_URLS": "yes",
    }


async def new_project(gateway: Gateway, session: aiohttp.ClientSession, **fields: str) -> Client:
    """Create a project as the operator. Return a client with its admin key."""
    return await _created_by(operator_of(gateway, session), session, gateway, fields)


async def new_keyless_project(gateway: Gateway, session: aiohttp.ClientSession, **fields: str) -> Client:
    """Create a project without the master key, as a new user does. Return a client with its admin key."""
    return await _created_by(Client(session, gateway.address, None), session, gateway, fields)


def operator_of(gateway: Gateway, session: aiohttp.ClientSession) -> Client:
    """Return a client with the master key."""
    return Client(session, gateway.address, gateway.master_key)


async def _created_by(
    creator: Client, session: aiohttp.ClientSession, gateway: Gateway, fields: Mapping[str, str]
) -> Client:
    status, answer, _ = await creator.call("POST", "/projects", {"name": "a project"} | fields)
    assert status == 201, answer
    return Client(session, gateway.address, answer["data"]["apiKey"])
