"""What a process tries out before its first request leaves nothing behind, and is what the first request does."""

import asyncpg
import pytest
import structlog

from api.authentication import Authenticator
from infra.database import HeldConnection
from infra.event_log import EventLog
from infra.provider_keys import ProviderKeys
from infra.vault import Vault
from tests.support.ledger import RealLedger, ask, attempt

TABLES = ("events", "inflight", "held_amounts", "meters", "requests")


async def rows(ledger: RealLedger) -> dict[str, int]:
    return {table: await ledger.owner.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}


async def test_a_rehearsal_of_every_part_succeeds_and_leaves_nothing(ledger: RealLedger) -> None:
    before, head = await rows(ledger), await ledger.log.head()
    with structlog.testing.capture_logs() as lines:
        for part in (ledger.admission, ledger.claims, ledger.log):
            await part.prepare()
    assert lines == [], "each was planned to its end"
    assert (await rows(ledger), await ledger.log.head()) == (before, head)


async def test_the_first_request_after_rehearsals_is_admitted_and_claimed(ledger: RealLedger) -> None:
    for part in (ledger.admission, ledger.claims, ledger.log):
        await part.prepare()
    project = await ledger.new_project()
    made = attempt(project, await ledger.new_key(project, daily_budget_nano_usd=1_000))
    assert (await ledger.admission.admit(ask(made, hold=70))).outcome == "admitted"
    assert await ledger.claims.claim(made.identity.request_id, 1) is not None
    assert await ledger.held(made.identity.key_id) == 70


async def test_a_database_that_is_away_ends_no_process(ledger: RealLedger) -> None:
    nowhere = HeldConnection("postgresql://nobody@127.0.0.1:9/nothing", name="tests")
    with structlog.testing.capture_logs() as lines:
        await EventLog(ledger.pool, nowhere).prepare()
    assert [line["event"] for line in lines] == ["not_rehearsed"]


async def test_the_look_ups_of_a_first_request_are_prepared(ledger: RealLedger) -> None:
    vault = Vault(bytes(32))
    for part in (Authenticator(ledger.pool, vault), ProviderKeys(ledger.pool, vault, {})):
        await part.prepare()
    for statement in ("%k.secret_hash = ANY%", "%k.sealed%"):
        prepared = await ledger.pool.fetchval(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE $1", statement
        )
        assert prepared == 1, statement


@pytest.mark.parametrize("is_away", [True, False])
async def test_look_ups_that_cannot_be_prepared_end_no_process(database_url: str, *, is_away: bool) -> None:
    """The database is away, or has no tables yet."""
    vault = Vault(bytes(32))
    url = "postgresql://nobody@127.0.0.1:9/nothing" if is_away else database_url
    async with asyncpg.create_pool(url, min_size=0, server_settings={"search_path": "pg_temp"}) as pool:
        with structlog.testing.capture_logs() as lines:
            for part in (Authenticator(pool, vault), ProviderKeys(pool, vault, {})):
                await part.prepare()
    assert [line["event"] for line in lines] == ["not_rehearsed"] * 2
