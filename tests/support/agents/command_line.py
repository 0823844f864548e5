"""The agents that are used from a command line: how each is pointed at a gateway, and the names of its tools.

Each runs unattended in a home and a folder of its own, without anything of the person who runs the tests. The
how-tos in `docs/how-to/agents` have the same settings for people.
"""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from tests.provider.script import Step
from tests.support.agents.installed import AgentMissingError, Package, clean, install, newer_node

RUN_TIMEOUT_S = 90
NOTE = "note.txt"
WRITTEN = "hello world\n"
EDITED = "hello there\n"


class Setup(Struct, frozen=True, kw_only=True):
    """A run's gateway, model and folders."""

    address: str
    key: str
    model: str
    home: Path
    work: Path
    root: Path
    """Where the agent is installed."""


class Call(Struct, frozen=True, kw_only=True):
    """How the agent is started."""

    command: tuple[str, ...]
    env: Mapping[str, str] = {}
    files: Mapping[str, str] = {}
    """Settings that are written before, by their path in the home."""


class Agent(Struct, frozen=True, kw_only=True):
    """An agent: where it comes from, how it is called, and the tool calls that edit a note."""

    name: str
    package: Package
    call: Callable[[Setup, str, tuple[Path, ...]], Call]
    """Given the setup, the prompt and the attached files."""
    read: Callable[[Path], Step]
    edit: Callable[[Path], Step]
    shell: Callable[[str], Step]
    needs_newer_node: bool = False


class Outcome(Struct, frozen=True, kw_only=True):
    """What a run ended with. `exit_code` is None if it did not end in time."""

    exit_code: int | None
    output: str
    """Standard output."""
    errors: str
    """Standard error."""
    work: Path

    @property
    def note(self) -> str:
        """Return the note as the run left it."""
        return (self.work / NOTE).read_text()

    @property
    def told(self) -> str:
        """Return everything that a person would have read."""
        return f"{self.output}\n{self.errors}"


def run(agent: Agent, setup: Setup, prompt: str, *attached: Path) -> Outcome:
    """Run the agent once on a new note.

    Raises:
        AgentMissingError: It cannot be installed here.

    """
    call = agent.call(setup, prompt, attached)
    for name, text in call.files.items():
        path = setup.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    node = f"{newer_node()}:" if agent.needs_newer_node else ""
    env = clean({"HOME": str(setup.home)} | dict(call.env))
    env["PATH"] = node + env["PATH"]
    (setup.work / NOTE).write_text(WRITTEN)
    try:
        done = subprocess.run(
            call.command,
            cwd=setup.work,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        out, err = ((text or b"").decode(errors="replace") for text in (late.stdout, late.stderr))
        return Outcome(exit_code=None, output=out, errors=err, work=setup.work)
    return Outcome(exit_code=done.returncode, output=done.stdout, errors=done.stderr, work=setup.work)


def installed(agent: Agent) -> Path:
    """Install the agent unless it is there. Return where it is."""
    if agent.needs_newer_node:
        newer_node()
    return install(agent.package)


def _binary(root: Path, pattern: str) -> str:
    found = next(root.glob(f"node_modules/{pattern}"), None)
    if found is None:
        raise AgentMissingError(f"{root.name} has no program for this machine")
    return str(found)


def _claude_code(setup: Setup, prompt: str, attached: tuple[Path, ...]) -> Call:
    names = "".join(f" {path}" for path in attached)
    return Call(
        command=(
            _binary(setup.root, "@anthropic-ai/claude-code-*/claude"),
            *("-p", prompt + names, "--model", setup.model, "--output-format", "text"),
            "--dangerously-skip-permissions",
        ),
        env={
            "ANTHROPIC_BASE_URL": setup.address,
            "ANTHROPIC_AUTH_TOKEN": setup.key,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1",
        },
    )


CODEX_SETTINGS = """\
model_provider = "gateway"

[model_providers.gateway]
name = "gateway"
base_url = "{address}/v1"
env_key = "GATEWAY_API_KEY"
wire_api = "responses"
"""


def _codex(setup: Setup, prompt: str, attached: tuple[Path, ...]) -> Call:
    images = [word for path in attached for word in ("-i", str(path))]
    return Call(
        command=(
            _binary(setup.root, "@openai/codex-*/vendor/*/bin/codex"),
            *("exec", "-m", setup.model, "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *(prompt, *images),
        ),
        env={"GATEWAY_API_KEY": setup.key},
        files={".codex/config.toml": CODEX_SETTINGS.format(address=setup.address)},
    )


def _opencode(setup: Setup, prompt: str, attached: tuple[Path, ...]) -> Call:
    model = {
        "name": setup.model,
        "attachment": True,
        "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]},
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "gateway",
        "options": {"baseURL": f"{setup.address}/v1", "apiKey": "{env:GATEWAY_API_KEY}"},
        "models": {setup.model: model},
    }
    settings = {"autoupdate": False, "share": "disabled", "permission": "allow", "provider": {"gateway": provider}}
    files = [word for path in attached for word in ("-f", str(path))]
    return Call(
        command=(
            _binary(setup.root, "opencode-*/bin/opencode"),
            *("run", "--pure", "-m", f"gateway/{setup.model}", prompt, *files),
        ),
        env={"GATEWAY_API_KEY": setup.key, "OPENCODE_DISABLE_MODELS_FETCH": "1"},
        files={".config/opencode/opencode.json": json.dumps(settings)},
    )


def _cline(setup: Setup, prompt: str, attached: tuple[Path, ...]) -> Call:
    provider = {
        "provider": "openai-compatible",
        "apiKey": setup.key,
        "model": setup.model,
        "baseUrl": f"{setup.address}/v1",
    }
    entry = {"settings": provider, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}
    settings = {"version": 1, "lastUsedProvider": "openai-compatible", "providers": {"openai-compatible": entry}}
    names = "".join(f" @{path}" for path in attached)
    return Call(
        command=(
            _binary(setup.root, ".bin/cline"),
            *("--data-dir", str(setup.home / "cline"), "-P", "openai-compatible", "-m", setup.model, prompt + names),
        ),
        files={"cline/settings/providers.json": json.dumps(settings)},
    )


def _qwen_code(setup: Setup, prompt: str, attached: tuple[Path, ...]) -> Call:
    names = "".join(f" @{path}" for path in attached)
    return Call(
        command=(
            _binary(setup.root, ".bin/qwen"),
            *("--auth-type", "openai", "--yolo", "-m", setup.model, prompt + names),
        ),
        env={
            "OPENAI_API_KEY": setup.key,
            "OPENAI_BASE_URL": f"{setup.address}/v1",
            "QWEN_CODE_SUPPRESS_YOLO_WARNING": "1",
        },
        files={".qwen/settings.json": json.dumps({"privacy": {"usageStatisticsEnabled": False}})},
    )


def _pi(setup: Setup, prompt: str, attached: tuple[Path, ...]) -> Call:
    provider = {
        "baseUrl": f"{setup.address}/v1",
        "apiKey": "GATEWAY_API_KEY",
        "api": "openai-completions",
        "models": [{"id": setup.model, "input": ["text", "image"]}],
    }
    return Call(
        command=(
            _binary(setup.root, ".bin/pi"),
            *("--offline", "--no-session", "--provider", "gateway", "--model", setup.model, "-p"),
            *(*(f"@{path}" for path in attached), prompt),
        ),
        env={"GATEWAY_API_KEY": setup.key},
        files={".pi/agent/models.json": json.dumps({"providers": {"gateway": provider}})},
    )


def _aider(setup: Setup, prompt: str, attached: tuple[Path, ...]) -> Call:
    return Call(
        command=(
            str(setup.root / "bin" / "aider"),
            *("--model", f"openai/{setup.model}", "--weak-model", f"openai/{setup.model}", "--edit-format", "diff"),
            *("--no-git", "--yes-always", "--no-check-update", "--no-pretty", "--analytics-disable"),
            *("--no-show-model-warnings", "--no-show-release-notes", "--message", prompt, NOTE, *map(str, attached)),
        ),
        env={
            "OPENAI_API_KEY": setup.key,
            "OPENAI_API_BASE": f"{setup.address}/v1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )


def _patch(path: Path) -> str:
    return f"*** Begin Patch\n*** Update File: {path}\n@@\n-hello world\n+hello there\n*** End Patch"


CLAUDE_CODE = Agent(
    name="Claude Code",
    package=Package(pins=("@anthropic-ai/claude-code@2.1.332",)),
    call=_claude_code,
    read=lambda path: Step(tool="Read", arguments={"file_path": str(path)}),
    edit=lambda path: Step(
        tool="Edit", arguments={"file_path": str(path), "old_string": "world", "new_string": "there"}
    ),
    shell=lambda line: Step(tool="Bash", arguments={"command": line}),
)
CODEX = Agent(
    name="Codex",
    package=Package(pins=("@openai/codex@0.169.0",)),
    call=_codex,
    read=lambda path: Step(tool="exec_command", arguments={"cmd": f"cat {path}"}),
    edit=lambda path: Step(tool="exec_command", arguments={"cmd": f"apply_patch <<'EOF'\n{_patch(path)}\nEOF"}),
    shell=lambda line: Step(tool="exec_command", arguments={"cmd": line}),
)
OPENCODE = Agent(
    name="opencode",
    package=Package(pins=("opencode-ai@1.18.33",)),
    call=_opencode,
    read=lambda path: Step(tool="read", arguments={"filePath": str(path)}),
    edit=lambda path: Step(
        tool="edit",
        arguments={"filePath": str(path), "oldString": "world", "newString": "there"},
        otherwise=Step(tool="apply_patch", arguments={"patchText": _patch(path)}),
    ),
    shell=lambda line: Step(tool="bash", arguments={"command": line}),
)
CLINE = Agent(
    name="Cline",
    package=Package(pins=("cline@3.0.65",)),
    call=_cline,
    read=lambda path: Step(tool="read_files", arguments={"files": [{"path": str(path)}]}),
    edit=lambda path: Step(
        tool="editor",
        arguments={"path": str(path), "old_text": "world", "new_text": "there"},
        otherwise=Step(tool="apply_patch", arguments={"input": _patch(path)}),
    ),
    shell=lambda line: Step(tool="run_commands", arguments={"commands": [line]}),
    needs_newer_node=True,
)
QWEN_CODE = Agent(
    name="Qwen Code",
    package=Package(pins=("@qwen-code/qwen-code@0.24.4",)),
    call=_qwen_code,
    read=lambda path: Step(tool="read_file", arguments={"file_path": str(path)}),
    edit=lambda path: Step(
        tool="edit", arguments={"file_path": str(path), "old_string": "world", "new_string": "there"}
    ),
    shell=lambda line: Step(tool="run_shell_command", arguments={"command": line, "is_background": False}),
    needs_newer_node=True,
)
PI = Agent(
    name="pi",
    package=Package(pins=("@mariozechner/pi-coding-agent@0.73.1",)),
    call=_pi,
    read=lambda path: Step(tool="read", arguments={"path": str(path)}),
    edit=lambda path: Step(
        tool="edit", arguments={"path": str(path), "edits": [{"oldText": "world", "newText": "there"}]}
    ),
    shell=lambda line: Step(tool="bash", arguments={"command": line}),
    needs_newer_node=True,
)
AIDER = Agent(
    name="aider",
    package=Package(pins=("aider-chat==0.86.2",), python="3.11"),
    call=_aider,
    read=lambda path: Step(say=f"I have read {path.name}."),
    edit=lambda path: Step(
        say=f"{path.name}\n```\n<<<<<<< SEARCH\nhello world\n=======\nhello there\n>>>>>>> REPLACE\n```\n"
    ),
    shell=lambda line: Step(say=f"Then run `{line}`."),
)
AGENTS = (CLAUDE_CODE, CODEX, OPENCODE, CLINE, QWEN_CODE, PI, AIDER)
