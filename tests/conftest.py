"""The servers of the run, and what a test gets of them."""

import asyncio
from collections.abc import Iterator

import pytest

from tests import services
from tests.provider.running import RunningProvider


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
    """The run's server, without the jobs of the test before."""
    asyncio.run(services.remove_jobs(nats_server_url))
    return nats_server_url


@pytest.fixture
def provider() -> Iterator[RunningProvider]:
    running = RunningProvider.start()
    yield running
    running.stop()
