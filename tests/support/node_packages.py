"""The vendors' npm packages in a Node process: installed once, then given one scenario per line."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "node"
LEAST_NODE = 20
INSTALL_TIMEOUT_S = 180
STOP_TIMEOUT_S = 10

_INSTALL = [
    "install",
    *("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"),
    *("--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000"),
]


class NodeMissingError(Exception):
    """The packages cannot run here. The message has the reason."""


class NodePackages:
    """A Node process that runs one scenario after another, see `node/main.mjs`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @classmethod
    def start(cls) -> "NodePackages":
        """Install the packages if necessary, and start the process.

        Raises:
            NodeMissingError: Node is not installed, or npm cannot install the packages.

        """
        node = find_node()
        install()
        command = [node, "main.mjs"]
        process = subprocess.Popen(
            command, cwd=DIRECTORY, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        return cls(process)

    def run(self, surface: str, scenario: str, **options: Any) -> dict[str, Any]:
        """Run a scenario. Return its result or the package's error, and every attempt that the package made."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"surface": surface, "scenario": scenario} | options) + "\n")
        self._process.stdin.flush()
        outcome: dict[str, Any] = json.loads(self._process.stdout.readline())
        return outcome

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(STOP_TIMEOUT_S)


def find_node() -> str:
    """Return the path of Node, if it is new enough.

    Raises:
        NodeMissingError: Node is not installed, or too old.

    """
    node = shutil.which("node")
    if node is None:
        raise NodeMissingError("Node is not installed: the npm packages cannot run")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    major = re.match(r"v(\d+)", version)
    if major is None or int(major[1]) < LEAST_NODE:
        raise NodeMissingError(f"Node {LEAST_NODE} is needed and {version} is installed: the npm packages cannot run")
    return node


def install() -> None:
    """Install the packages next to their `package.json`, unless these versions are installed already.

    Raises:
        NodeMissingError: npm cannot install them.

    """
    wanted = hashlib.sha256((DIRECTORY / "package.json").read_bytes()).hexdigest()
    installed = DIRECTORY / "node_modules" / ".installed"
    if installed.exists() and installed.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise NodeMissingError("npm is not installed: the npm packages cannot run")
    try:
        subprocess.run(
            [npm, *_INSTALL], cwd=DIRECTORY, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=True
        )
    except subprocess.TimeoutExpired:
        raise NodeMissingError(f"npm did not install the packages within {INSTALL_TIMEOUT_S} s") from None
    except subprocess.CalledProcessError as error:
        said = next((line for line in error.stderr.splitlines() if "npm error" in line), "npm error")
        raise NodeMissingError(f"npm cannot install the packages here: {said}") from None
    installed.write_text(wanted)
