"""Fixtures for a module: the test provider as a child process, and the vendors' SDKs in front of it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.provider.direct import Direct
from tests.provider.running import RunningProvider


@pytest.fixture(scope="module")
def running() -> Iterator[RunningProvider]:
    provider = RunningProvider.start()
    yield provider
    provider.stop()


@pytest.fixture
async def direct(running: RunningProvider) -> AsyncIterator[Direct]:
    one = Direct(running)
    yield one
    await one.close()
