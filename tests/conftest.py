"""The servers and the gateway of the test run, and the fixtures that give tests access to them."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, settings

from tests.provider.running import RunningProvider
from tests.support import services
from tests.support.gateway import Client, Gateway, environment_for, new_project

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Containers often set it. Every process that a test starts would compile all modules anew, at three times the CPU."""

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
"""How long an example takes depends on what else the machine does, and says nothing of the code."""


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exempt what was collected from garbage collections: each would visit millions of objects that stay anyway."""
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with services.postgres() as url:
        services.make_template(url)
        yield url


@pytest.fixture(scope="session")
def nats_server_url() -> Iterator[str]:
    with services.nats() as url:
        yield url


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    with services.database(postgres_url) as url:
        yield url


@pytest.fixture
def nats_url(nats_server_url: str) -> str:
    """Return the URL of the run's server, after the jobs of earlier tests were removed."""
    asyncio.run(services.remove_jobs(nats_server_url))
    return nats_server_url


@pytest.fixture
def provider() -> Iterator[RunningProvider]:
    running = RunningProvider.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def upstream() -> Iterator[RunningProvider]:
    """Run the test provider that the run's gateway calls."""
    running = RunningProvider.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def gateway(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with two API processes and two workers. Tests that share it do not change it."""
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
    """Return a caller with the admin key of a new project."""
    return await new_project(gateway, session)
