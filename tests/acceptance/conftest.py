"""One gateway with two API processes and two workers, in front of the test provider, for the tests that only ask it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.gateway import Client, Gateway
from tests.provider.running import RunningProvider


def environment_for(provider: RunningProvider) -> dict[str, str]:
    """What points a gateway at the test provider."""
    return {
        "OPENAI_API_KEY": "sk-test-openai-canary",
        "ANTHROPIC_API_KEY": "sk-test-anthropic-canary",
        "OPENAI_BASE_URL": provider.openai_base_url,
        "ANTHROPIC_BASE_URL": provider.anthropic_base_url,
        "GATEWAY_ALLOW_LOOPBACK_URLS": "yes",
    }


@pytest.fixture(scope="session")
def upstream() -> Iterator[RunningProvider]:
    running = RunningProvider.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def gateway(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("gateway") / "data"
    running = Gateway.start(directory, "--api-processes", "2", "--workers", "2", env=environment_for(upstream))
    yield running
    running.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as opened:
        yield opened


@pytest.fixture
async def client(gateway: Gateway, session: aiohttp.ClientSession) -> Client:
    """A caller with the admin key of a project of its own."""
    return await new_project(gateway, session)


async def new_project(gateway: Gateway, session: aiohttp.ClientSession, **fields: str) -> Client:
    """Create a project and become its admin."""
    body = {"name": "a project"} | fields
    status, answer, _ = await Client(session, gateway.address, None).call("POST", "/projects", body)
    assert status == 201, answer
    return Client(session, gateway.address, answer["data"]["apiKey"])
