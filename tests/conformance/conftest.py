"""Both kinds of the vendors' own SDKs, pointed at the run's gateway."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.sdk_clients import Pointed, Project


@pytest.fixture(scope="session")
def project(gateway: Gateway) -> Iterator[Project]:
    one = Project(gateway)
    yield one
    one.close()


@pytest.fixture(scope="session")
def key(project: Project) -> str:
    """A key that no limit stops."""
    return project.issue(rateLimit=None)["apiKey"]


@pytest.fixture(scope="session")
def waiting(gateway: Gateway, key: str) -> Iterator[Pointed]:
    """The SDKs that wait for their answers."""
    pointed = Pointed(gateway, key)
    yield pointed
    pointed.openai.close()
    pointed.anthropic.close()


@pytest.fixture(params=["sync", "async"])
async def openai(request: pytest.FixtureRequest, gateway: Gateway, key: str, waiting: Pointed) -> AsyncIterator[Any]:
    """OpenAI's SDK, in both kinds."""
    if request.param == "sync":
        yield waiting.openai
        return
    async with Pointed(gateway, key).async_openai as client:
        yield client


@pytest.fixture(params=["sync", "async"])
async def anthropic(request: pytest.FixtureRequest, gateway: Gateway, key: str, waiting: Pointed) -> AsyncIterator[Any]:
    """Anthropic's SDK, in both kinds."""
    if request.param == "sync":
        yield waiting.anthropic
        return
    async with Pointed(gateway, key).async_anthropic as client:
        yield client
