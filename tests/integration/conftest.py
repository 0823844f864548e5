"""The real ledger, opened for one test."""

from collections.abc import AsyncIterator

import pytest

from api.accounts import Accounts
from infra.vault import Vault
from tests.support.ledger import RealLedger


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[RealLedger]:
    opened = await RealLedger.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def accounts(ledger: RealLedger, vault: Vault) -> Accounts:
    """Needs the module's own fixture `vault`."""
    return Accounts(ledger.pool, ledger.log, vault)
