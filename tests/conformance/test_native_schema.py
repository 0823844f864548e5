"""Every response of the native API matches its OpenAPI document, and none is a 500."""

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project

ROOT = Path(__file__).parent.parent.parent
COMMAND = str(Path(sysconfig.get_path("scripts")) / "st")
EXAMPLES = "15"
"""The examples of each operation, beside the examples that cover every keyword of its schemas."""
TIMEOUT_S = 300
"""The limit, with room for a busy machine."""


@pytest.fixture(scope="module")
def fuzzed(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway for the fuzzing alone, because it sets prices for the whole installation."""
    directory = tmp_path_factory.mktemp("fuzzed") / "data"
    running = Gateway.start(directory, env=environment_for(upstream))
    yield running
    running.stop()


@pytest.mark.parametrize(
    "paths",
    [
        "^/api/v1/(completions|models|usage|requests|audit)",
        "^/api/v1/(projects|prices|providers)",  # these sometimes set a budget to 0
        "^/api/v1/routes",
        "^/api/v1/jobs",
    ],
)
async def test_every_response_matches_the_schema(
    fuzzed: Gateway, session: aiohttp.ClientSession, tmp_path: Path, paths: str
) -> None:
    client = await new_project(fuzzed, session)
    _, keys, _ = await client.call("GET", "/projects/api-keys")
    key_id = keys["data"][0]["id"]
    await client.call(
        "PATCH", f"/projects/api-keys/{key_id}", {"rateLimit": None}
    )  # otherwise most responses would be 429
    run = fuzz(fuzzed, client, key_id, paths, tmp_path)
    assert run.returncode == 0, run.stdout


def fuzz(
    gateway: Gateway, client: Client, key_id: str, paths: str, directory: Path
) -> "subprocess.CompletedProcess[str]":
    """Run schemathesis on some paths, with the same examples each time. `native_exclusions.py` has the exclusions."""
    own = {
        "SCHEMATHESIS_HOOKS": "tests.support.native_exclusions",
        "PYTHONPATH": str(ROOT),
        "KEY_IN_USE": key_id,
        "PROJECT_KEY": str(client.key),
        "MASTER_KEY": gateway.master_key,
    }
    return subprocess.run(
        [
            COMMAND,
            "run",
            f"{gateway.address}/schema/openapi.json",
            *("--include-path-regex", paths),
            *("--phases", "examples,coverage,fuzzing"),
            *("--max-examples", EXAMPLES),
            "--generation-deterministic",
            "--continue-on-failure",
            "--no-color",
        ],
        cwd=directory,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
