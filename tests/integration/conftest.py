"""Fixtures: the real ledger on a new database, and the accounts."""

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
    """Return the accounts. The test module must define the fixture `vault`."""
    return Accounts(ledger.pool, ledger.log, vault)
