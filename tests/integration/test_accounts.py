"""Keys and secrets: changes reach every process in time, and no secret is in the database in plain text."""

import asyncio
import os

import pytest
from msgspec.structs import replace

from api.accounts import Accounts
from api.authentication import MAX_AGE_S, Authenticator
from domain.dialects.registry import DIALECTS
from domain.errors import NotFound, Unauthorized, Unavailable
from domain.events import KeySettings
from domain.money import NanoUsd
from infra.blobs import Blobs
from infra.provider_keys import Access, ProviderKeys
from infra.vault import Vault, VaultError
from tests.support.jobs import make_job
from tests.support.ledger import START, RealLedger
from workers.calls import ProviderCalls
from workers.providers.provider import Credential

SECRET = "sk-provider-canary-0123456789"
PROMPT = b'{"messages": "canary of a prompt"}'


@pytest.fixture
def vault() -> Vault:
    return Vault(os.urandom(32))


async def test_no_secret_is_in_the_database(ledger: RealLedger, accounts: Accounts, vault: Vault) -> None:
    made = await accounts.create_project("with secrets", {"openai": SECRET})
    await Blobs(ledger.pool, ledger.log, vault).write(made.project_id, "blob_1", PROMPT, START)
    tables = await ledger.owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [row for (table,) in tables for row in await ledger.owner.fetch(f"SELECT t::text AS text FROM {table} AS t")]
    dump = "".join(row["text"] for row in rows)
    assert made.project_id in dump
    for secret in (SECRET, made.key.text, made.key.text[8:-6], PROMPT.decode()):
        assert secret not in dump
        assert secret.encode().hex() not in dump
    assert await ProviderKeys(ledger.pool, vault, {}).access(made.project_id, "openai") == Access(SECRET, is_own=True)


async def test_a_sealed_key_moved_to_another_project_does_not_open(
    ledger: RealLedger, accounts: Accounts, vault: Vault
) -> None:
    await accounts.create_project("mine", {"openai": SECRET})
    thief = await accounts.create_project("a thief's", {})
    await ledger.owner.execute("UPDATE provider_keys SET project_id = $1", thief.project_id)
    with pytest.raises(VaultError) as raised:
        await ProviderKeys(ledger.pool, vault, {}).access(thief.project_id, "openai")
    assert SECRET not in str(raised.value)


async def test_a_replaced_provider_key_is_used_once_that_is_known(
    ledger: RealLedger, accounts: Accounts, vault: Vault
) -> None:
    made = await accounts.create_project("changes", {"openai": SECRET})
    known = ProviderKeys(ledger.pool, vault, {"openai": "sk-the-installations"})
    assert await known.access(made.project_id, "openai") == Access(SECRET, is_own=True)
    await accounts.change_project(made.project_id, settings={}, provider_keys={"openai": None})
    known.forget(made.project_id)
    assert await known.access(made.project_id, "openai") == Access("sk-the-installations")


async def test_a_key_that_was_changed_meanwhile_is_not_changed_back_and_is_revoked_all_the_same(
    accounts: Accounts,
) -> None:
    made = await accounts.create_project("two at once", {})
    seen = await accounts.key(made.project_id, made.key.key_id)
    lowered = await accounts.change_key(seen, replace(seen.settings, daily_budget_nano_usd=NanoUsd(5)))
    with pytest.raises(Unavailable):
        await accounts.change_key(seen, replace(seen.settings, name="renamed"))
    assert (await accounts.key(made.project_id, made.key.key_id)).settings == lowered.settings
    await accounts.revoke_key(seen)
    assert (await accounts.key(made.project_id, made.key.key_id)).revoked_at is not None


async def test_revoked_key_is_refused_within_a_second_without_notification(
    ledger: RealLedger, accounts: Accounts, vault: Vault
) -> None:
    made = await accounts.create_project("revokes", {})
    other_process = Authenticator(ledger.pool, vault)
    headers = {"authorization": f"Bearer {made.key.text}"}
    assert (await other_process.authenticate(headers)).project_id == made.project_id
    await accounts.revoke_key(await accounts.key(made.project_id, made.key.key_id))
    await asyncio.sleep(MAX_AGE_S)
    with pytest.raises(Unauthorized):
        await other_process.authenticate(headers)
    assert MAX_AGE_S < 1


async def test_a_key_of_another_installation_is_refused(ledger: RealLedger, accounts: Accounts) -> None:
    made = await accounts.create_project("ours", {})
    with pytest.raises(Unauthorized):
        await Authenticator(ledger.pool, Vault(os.urandom(32))).authenticate({"x-api-key": made.key.text})


async def test_a_projects_settings_change_one_by_one(accounts: Accounts) -> None:
    made = await accounts.create_project("first", {})
    await accounts.change_project(made.project_id, settings={"daily_budget_nano_usd": 5}, provider_keys={})
    changed = await accounts.change_project(made.project_id, settings={"name": "second"}, provider_keys={})
    assert (changed.name, changed.daily_budget_nano_usd, changed.monthly_budget_nano_usd) == ("second", 5, None)


async def test_keys_belong_to_their_project(accounts: Accounts) -> None:
    mine = await accounts.create_project("mine", {})
    other = await accounts.create_project("other", {})
    issued = await accounts.issue_key(mine.project_id, KeySettings(name="one"))
    with pytest.raises(NotFound):
        await accounts.key(other.project_id, issued.key_id)


@pytest.mark.parametrize("own", [{}, {"openai": SECRET}])
async def test_provider_objects_need_an_own_credential(
    ledger: RealLedger, accounts: Accounts, vault: Vault, own: dict[str, str]
) -> None:
    made = await accounts.create_project("names a file", own)
    keys = ProviderKeys(ledger.pool, vault, {"openai": "sk-of-the-installation"})
    calls = ProviderCalls(
        providers={}, dialects=DIALECTS, keys=keys, base_urls={}, blobs=Blobs(ledger.pool, ledger.log, vault)
    )
    job = make_job(
        project_id=made.project_id,
        operation="responses",
        model="gpt-4o",
        provider="openai",
        kind="openai",
        upstream_model="gpt-4o",
        is_passthrough=True,
        needs_own_credential=True,
    )
    assert (await calls.prepare(job)).call.credential == (Credential(SECRET, is_own=True) if own else None)
    assert (await calls.prepare(replace(job, needs_own_credential=False))).call.credential is not None
