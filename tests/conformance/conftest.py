"""The synchronous and asynchronous SDKs of the vendors, connected to the run's gateway."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.sdk_clients import Project, SdkClients


@pytest.fixture(scope="session")
def project(gateway: Gateway) -> Iterator[Project]:
    created = Project(gateway)
    yield created
    created.close()


@pytest.fixture(scope="session")
def key(project: Project) -> str:
    """Return a key without limits."""
    return project.issue(rateLimit=None)["apiKey"]


@pytest.fixture(scope="session")
def sync_sdks(gateway: Gateway, key: str) -> Iterator[SdkClients]:
    """Return the synchronous SDKs."""
    clients = SdkClients(gateway, key)
    yield clients
    clients.openai.close()
    clients.anthropic.close()


@pytest.fixture(params=["sync", "async"])
async def openai(
    request: pytest.FixtureRequest, gateway: Gateway, key: str, sync_sdks: SdkClients
) -> AsyncIterator[Any]:
    """Return OpenAI's SDK, synchronous and asynchronous in turn."""
    if request.param == "sync":
        yield sync_sdks.openai
        return
    async with SdkClients(gateway, key).async_openai as client:
        yield client


@pytest.fixture(params=["sync", "async"])
async def anthropic(
    request: pytest.FixtureRequest, gateway: Gateway, key: str, sync_sdks: SdkClients
) -> AsyncIterator[Any]:
    """Return Anthropic's SDK, synchronous and asynchronous in turn."""
    if request.param == "sync":
        yield sync_sdks.anthropic
        return
    async with SdkClients(gateway, key).async_anthropic as client:
        yield client
