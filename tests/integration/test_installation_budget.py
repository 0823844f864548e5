"""A project's daily budget for requests under the installation's credentials: admission, accounts, the worker."""

import asyncio
from datetime import UTC, datetime

import pytest

from api.accounts import DEFAULT_INSTALLATION_DAILY_BUDGET, Accounts
from api.authentication import Authenticator
from domain.dialects.registry import DIALECTS
from domain.limits import INSTALLATION_WINDOW
from domain.money import NanoUsd
from infra.admission import Attempt, BudgetExhausted
from infra.blobs import Blobs
from infra.provider_keys import ProviderKeys
from infra.vault import Vault
from projections import keys
from tests.support.jobs import make_job
from tests.support.ledger import RealLedger, ask, attempt, cost
from workers.calls import ProviderCalls
from workers.providers.provider import Credential

BUDGET = NanoUsd(100)
OWN_KEY = "sk-own-canary-0123456789"
SHARED_KEY = "sk-of-the-installation"


@pytest.fixture
def vault() -> Vault:
    return Vault(bytes(32))


async def keyless(ledger: RealLedger) -> str:
    made = await ledger.accounts.create_project("keyless", {}, installation_daily_budget_nano_usd=BUDGET)
    return made.project_id


def shared(project: str, key: str) -> Attempt:
    """Return an attempt under the installation's credential."""
    return attempt(project, key, uses_installation_credential=True)


async def test_a_budget_for_the_installations_credentials_holds_for_them_alone(ledger: RealLedger) -> None:
    project = await keyless(ledger)
    first, second = await ledger.new_key(project), await ledger.new_key(project)
    bystander = await ledger.new_key(other := await ledger.new_project())
    held = shared(project, first)
    assert (await ledger.admission.admit(ask(held, hold=60))).outcome == "admitted"
    waiting = await ledger.admission.admit(ask(shared(project, second), hold=60))
    assert (waiting.outcome, waiting.window and waiting.window.name) == ("budget_held", INSTALLATION_WINDOW)
    assert await ledger.claims.claim(held.identity.request_id, 1)
    today = datetime.now(UTC).date()
    with pytest.raises(BudgetExhausted):
        await ledger.claims.admit_next(held, 2, 2, NanoUsd(60), today)
    await ledger.append(held, 0, cost(held, 60, hold=60, day=today))
    await ledger.fold()
    refused = await ledger.admission.admit(ask(shared(project, second), hold=60))
    assert refused.outcome == "budget_spent"
    assert refused.window is not None
    assert (refused.window.name, refused.window.limit_nano_usd, refused.window.taken_nano_usd) == (
        INSTALLATION_WINDOW,
        BUDGET,
        60,
    )
    own, fits = attempt(project, second), shared(project, second)
    assert (await ledger.admission.admit(ask(own, hold=10**9))).outcome == "admitted"
    assert (await ledger.admission.admit(ask(shared(other, bystander), hold=10**9))).outcome == "admitted"
    assert await ledger.admission.drop([own.identity.request_id])
    admitted = await ledger.admission.admit(ask(fits, hold=40))
    assert (admitted.outcome, admitted.limit_status.budget_left_nano_usd) == ("admitted", 0)


async def test_burst_over_many_keys_stays_within_the_installation_budget(ledger: RealLedger) -> None:
    project = await keyless(ledger)
    issued = [await ledger.new_key(project) for _ in range(5)]
    asks = [ask(shared(project, issued[n % 5]), hold=10) for n in range(50)]
    outcomes = [decision.outcome for decision in await asyncio.gather(*map(ledger.admission.admit, asks))]
    assert outcomes.count("admitted") == 10


async def test_no_change_of_the_projects_own_lifts_its_installation_budget(accounts: Accounts) -> None:
    made = await accounts.create_project(
        "keyless", {}, installation_daily_budget_nano_usd=DEFAULT_INSTALLATION_DAILY_BUDGET
    )
    project = made.project_id
    changed = await accounts.change_project(
        project, settings={"name": "other", "daily_budget_nano_usd": None}, provider_keys={"openai": OWN_KEY}
    )
    assert changed.installation_daily_budget_nano_usd == DEFAULT_INSTALLATION_DAILY_BUDGET
    lifted = await accounts.change_project(
        project, settings={"installation_daily_budget_nano_usd": None}, provider_keys={}
    )
    assert (lifted.name, lifted.installation_daily_budget_nano_usd) == ("other", None)


async def test_a_change_of_the_projects_own_never_undoes_the_operators(accounts: Accounts) -> None:
    project = (await accounts.create_project("keyless", {}, installation_daily_budget_nano_usd=BUDGET)).project_id
    for number in range(5):
        wanted = NanoUsd(number)
        results = await asyncio.gather(
            accounts.change_project(project, settings={"installation_daily_budget_nano_usd": wanted}, provider_keys={}),
            accounts.change_project(project, settings={"name": f"name {number}"}, provider_keys={}),
            return_exceptions=True,
        )
        if isinstance(results[0], BaseException):  # the other was first: try again, as the message says
            await accounts.change_project(
                project, settings={"installation_daily_budget_nano_usd": wanted}, provider_keys={}
            )
        record = await keys.project(accounts._pool, project)
        assert record is not None
        assert record.installation_daily_budget_nano_usd == wanted


async def test_a_caller_knows_its_projects_own_credentials(
    ledger: RealLedger, accounts: Accounts, vault: Vault
) -> None:
    made = await accounts.create_project("keyless", {"openai": OWN_KEY}, installation_daily_budget_nano_usd=BUDGET)
    key = await accounts.issue_key(made.project_id, made.key.settings)
    caller = await Authenticator(ledger.pool, vault).authenticate({"x-api-key": key.text})
    assert caller.own_credentials == {"openai"}
    assert caller.is_limited


async def test_request_keeps_the_credential_it_was_admitted_under(
    ledger: RealLedger, accounts: Accounts, vault: Vault
) -> None:
    made = await accounts.create_project("keyless", {"openai": OWN_KEY}, installation_daily_budget_nano_usd=BUDGET)
    access = ProviderKeys(ledger.pool, vault, {"openai": SHARED_KEY})
    calls = ProviderCalls(
        providers={}, dialects=DIALECTS, keys=access, base_urls={}, blobs=Blobs(ledger.pool, ledger.log, vault)
    )
    openai = {"provider": "openai", "kind": "openai", "model": "gpt-4o-mini", "upstream_model": "gpt-4o-mini"}
    canonical = b'{"messages": [{"role": "user", "content": "x"}], "model": "gpt-4o-mini"}'
    job = make_job(project_id=made.project_id, body=canonical, needs_own_credential=True, **openai)
    assert (await calls.prepare(job)).call.credential == Credential(OWN_KEY, is_own=True)
    await accounts.change_project(made.project_id, settings={}, provider_keys={"openai": None})
    access.forget(made.project_id)
    assert (await calls.prepare(job)).call.credential is None
    bystander = make_job(project_id="prj_bystander", body=canonical, **openai)
    assert (await calls.prepare(bystander)).call.credential == Credential(SHARED_KEY)
