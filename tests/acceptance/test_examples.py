"""Every file in `examples/` runs against a real gateway and prints the expected output."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import Struct

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, clean_environment
from tests.support.node_packages import DIRECTORY as NODE_TESTS
from tests.support.node_packages import NodeMissingError, find_node, install

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TIMEOUT_S = 60
NAMES = sorted(
    path.relative_to(EXAMPLES).as_posix()
    for path in EXAMPLES.glob("*/**/*")
    if path.is_file() and not {"node_modules", "__pycache__"} & set(path.parts)
)
NO_EXAMPLES = {"javascript/package.json"}

PARIS = "[[tool=get_weather]] [[arguments=%7B%22city%22:%22Paris%22%7D]]"
OCTOBER = "[[tool=get_expenses]] [[arguments=%7B%22month%22:%22October%22%7D]]"
ANSWER = r"answer to [0-9a-f]{16}"
COST = r"cost: 0\.\d*[1-9]\d* US dollars"
ASK_WITH_OPENAI_VARIABLES = (
    'curl -sS "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" '
    '-d \'{"model": "echo", "max_tokens": 100, "messages": [{"role": "user", "content": "I am an agent"}]}\''
)


class Run(Struct, frozen=True, kw_only=True):
    """The start of an example, and the patterns that its output must contain, in order."""

    prints: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}


CHAT = Run(prints=(rf"OpenAI's SDK: {ANSWER}", COST, rf"Anthropic's SDK: {ANSWER}", COST))
STREAM = Run(prints=(ANSWER, COST))
TOOLS = Run(
    arguments=(PARIS,),
    prints=(r'get_weather\(\{"city": ?"Paris"\}\) = 18 degrees and sunny in Paris', "the tools said 18 degrees"),
)
EMBEDDINGS = Run(
    prints=(
        r"3 vectors of \d+ numbers, cost: 0\.0*[1-9]\d* US dollars, cache: MISS",
        r"3 vectors of \d+ numbers, cost: 0 US dollars, cache: HIT",
    )
)
BUDGET = Run(
    prints=(
        r"issued key_\w+: 0\.001 US dollars a day",
        r"100 tokens fit: 'echo: Hello!' cost 0\.000005 US dollars",
        "1000 tokens do not fit: 429 insufficient_quota",
        r"spent 0\.000005 of 0\.001000 US dollars, 0\.000995 remain",
    )
)
PROVIDER = Run(prints=("added groq at http://127.0.0.1", ANSWER))
AGENT = Run(
    arguments=(OCTOBER,),
    prints=(
        r"get_expenses\(October\) = 1,200 dollars",
        "the tools said 1,200 dollars",
        r"the agent spent 0\.0*[1-9]\d* of 0\.500000 US dollars",
    ),
)
BROKE_AGENT = Run(
    environment={"AGENT_BUDGET": "0.0001"},
    prints=("stopped by its budget: .+", r"the agent spent 0\.000000 of 0\.000100 US dollars"),
)

RUNS: dict[str, tuple[Run, ...]] = {
    "python/chat.py": (CHAT,),
    "python/stream.py": (STREAM,),
    "python/tools.py": (TOOLS,),
    "python/embeddings.py": (EMBEDDINGS,),
    "python/budget.py": (BUDGET,),
    "python/provider.py": (PROVIDER,),
    "python/agent.py": (AGENT, BROKE_AGENT),
    "javascript/chat.mjs": (CHAT,),
    "javascript/stream.mjs": (STREAM,),
    "javascript/tools.mjs": (TOOLS,),
    "javascript/embeddings.mjs": (EMBEDDINGS,),
    "javascript/budget.mjs": (BUDGET,),
    "javascript/provider.mjs": (PROVIDER,),
    "javascript/agent.mjs": (AGENT, BROKE_AGENT),
    "curl/chat.sh": (
        Run(
            prints=(
                rf'"content":"{ANSWER}.*"cached":false',
                rf'"content":"{ANSWER}.*"cost":0,"cached":true',
                rf'"object":"chat.completion".*"content":"{ANSWER}',
                rf'"type": ?"message".*"text": ?"{ANSWER}',
            )
        ),
    ),
    "curl/stream.sh": (Run(prints=(r'data: \{.*"delta"', r'"cost":0\.\d*[1-9]', r"data: \[DONE\]")),),
    "curl/tools.sh": (
        Run(arguments=(PARIS,), prints=(r'"toolCalls":\[\{"id":"\w+"', "the tools said 18 degrees and sunny")),
    ),
    "curl/embeddings.sh": (Run(prints=(r'"embedding":\[.*"cached":false', r'"cost":0,"cached":true')),),
    "curl/budget.sh": (
        Run(
            prints=(
                r"issued key_\w+",
                "100 tokens fit:\n.*echo: Hello!",
                "1000 tokens do not fit:\n.*BUDGET_EXCEEDED",
                r'"limit":0\.001,"spent":0\.000005',
                '"revoked":true',
            )
        ),
    ),
    "curl/provider.sh": (Run(prints=('"name":"groq"', rf'"provider":"groq".*"content":"{ANSWER}')),),
    "curl/agent.sh": (
        Run(
            arguments=("bash", "-c", ASK_WITH_OPENAI_VARIABLES),
            prints=("echo: I am an agent", r'what the agent spent:\n.*"totalCost":0\.\d*[1-9]', '"revoked":true'),
        ),
        Run(
            arguments=("bash", "-c", ASK_WITH_OPENAI_VARIABLES),
            environment={"AGENT_BUDGET": "0.0001"},
            prints=("insufficient_quota", r'"totalCost":0,', '"revoked":true'),
        ),
    ),
}

WITHOUT_A_PROVIDER_KEY = {
    "chat": Run(prints=("echo: What is the capital of France",)),
    "stream": Run(prints=("echo:", "Count", "five")),
    "tools": Run(prints=("echo: What is the weather in Paris",)),
    "embeddings": Run(prints=("(3 vectors of 8 numbers|embedding).*", '(HIT|"cached":true)')),
    "agent": Run(
        arguments=("bash", "-c", ASK_WITH_OPENAI_VARIABLES), prints=("echo: ", r"(the agent spent 0\.0|totalCost)")
    ),
}


def command(name: str, directory: Path) -> list[str]:
    """Return the command that runs a file. JavaScript is copied into the directory of the packages, to find them."""
    path = EXAMPLES / name
    match path.suffix:
        case ".py":
            return [sys.executable, str(path)]
        case ".sh":
            return ["bash", str(path)]
        case ".mjs":
            try:
                node = find_node()
                install()
            except NodeMissingError as why:
                pytest.skip(str(why))
            (directory / "node_modules").symlink_to(NODE_TESTS / "node_modules")
            return [node, str(shutil.copy(path, directory))]
        case _:
            raise AssertionError(f"nothing here runs {name}: add it to this test")


async def outputs(command: list[str], run: Run, environment: Mapping[str, str]) -> str:
    """Run an example to its end. Return its output."""
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, *run.arguments],
        env=clean_environment(dict(environment) | dict(run.environment)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_printed(run: Run, output: str) -> None:
    position = 0
    for pattern in run.prints:
        found = re.compile(pattern).search(output, position)
        assert found is not None, f"{pattern!r} is not in what follows:\n{output[position:]}"
        position = found.end()


@pytest.fixture
def environment(gateway: Gateway, client: Client, upstream: RunningProvider) -> dict[str, str]:
    """Return the variables of `examples/README.md`, with Groq at the test provider."""
    assert client.key is not None
    return {
        "AI_GATEWAY_URL": gateway.address,
        "AI_GATEWAY_KEY": client.key,
        "GROQ_BASE_URL": upstream.openai_base_url,
        "GROQ_API_KEY": "gsk-test-canary",
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_EXAMPLES])
async def test_an_example_prints_its_expected_output(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    assert name in RUNS, f"{name} has no test: add it to this file"
    started = command(name, tmp_path)
    for run in RUNS[name]:
        assert_printed(run, await outputs(started, run, environment))


@pytest.mark.parametrize("name", [name for name in NAMES if Path(name).stem in WITHOUT_A_PROVIDER_KEY])
async def test_an_example_runs_without_a_provider_key(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    run = WITHOUT_A_PROVIDER_KEY[Path(name).stem]
    assert_printed(run, await outputs(command(name, tmp_path), run, environment | {"AI_GATEWAY_MODEL": "echo"}))


def test_every_use_has_an_example_in_every_language() -> None:
    uses = {folder: {Path(name).stem for name in RUNS if name.startswith(folder)} for folder in ("python", "curl")}
    uses["javascript"] = {Path(name).stem for name in RUNS if name.startswith("javascript")}
    assert set(RUNS) == set(NAMES) - NO_EXAMPLES
    assert uses["python"] == uses["javascript"] == uses["curl"]


def test_the_packages_are_those_that_the_sdk_tests_use() -> None:
    wanted = json.loads((EXAMPLES / "javascript/package.json").read_text())["dependencies"]
    tested = json.loads((NODE_TESTS / "package.json").read_text())["dependencies"]
    assert wanted.items() <= tested.items()


def test_a_shell_script_can_be_started_by_its_name() -> None:
    assert all(os.access(EXAMPLES / name, os.X_OK) for name in NAMES if name.endswith(".sh"))
