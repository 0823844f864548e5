"""The real ledger, opened for one test."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.ledger import RealLedger


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[RealLedger]:
    opened = await RealLedger.open(database_url)
    yield opened
    await opened.close()
