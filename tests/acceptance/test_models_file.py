"""An operator's file of models is read by every process."""

import json
from pathlib import Path

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Gateway, environment_for, new_project

MODELS = """
[models.claude-opus-9]
max_output = 9_000
takes_temperature = true
"""


async def test_what_the_operator_knows_of_a_model_counts_in_every_process(
    upstream: RunningProvider, tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    file.write_text(MODELS)
    gateway = Gateway.start(tmp_path / "data", env=environment_for(upstream) | {"GATEWAY_MODELS_FILE": str(file)})
    try:
        async with aiohttp.ClientSession() as session:
            client = await new_project(gateway, session)
            status, answer, _ = await client.chat("hello", model="claude-opus-9")
        assert status == 200, answer
        sent = json.loads(upstream.requests(last=1)[0].body)
        assert sent["temperature"] == 0.7  # the API's process adds the native default
        assert sent["max_tokens"] == 9_000  # the worker's writes the request
    finally:
        gateway.stop()


def test_a_wrong_file_stops_the_start_with_a_line(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text("[models.a]\nmax_outptu = 3\n")
    with pytest.raises(AssertionError, match=r"GATEWAY_MODELS_FILE is .*a: Object contains unknown field `max_outptu`"):
        Gateway.start(tmp_path / "data", env={"GATEWAY_MODELS_FILE": str(file)})
