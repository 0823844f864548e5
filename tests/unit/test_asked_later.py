"""What is written down of a response that its provider keeps is all that a question about its cost needs."""

from collections.abc import Mapping
from datetime import date
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from domain.dialects.registry import DIALECTS, NATIVE
from domain.events import INSTALLATION, KeptResponse
from domain.pricing import ClassPrices, Price
from infra.jobs import Job
from infra.provider_keys import Access
from tests.support.jobs import make_job
from tests.support.ledger import attempt, lost
from workers.calls import PreparedCall, ProviderCalls
from workers.kept_responses import job_of, kept_response, with_id
from workers.providers.provider import Credential, ProviderCall
from workers.settlements import ASKED_WITHIN_S, WAITS_S

PRICE = Price(provider="openai", model="gpt", source="tests", prices=ClassPrices(input=1, output=1))


def responses_job(**fields: Any) -> Job:
    known = {"operation": "responses", "kind": "openai", "price": PRICE, "is_passthrough": True}
    return make_job(**known | fields)


def prepared(job: Job, content: bytes = b"{}", credential: Credential | None = None) -> PreparedCall:
    """Return as much of a call as is looked at."""
    translation = DIALECTS.chosen(NATIVE, "responses", job.kind, is_passthrough=True)
    call: Any = SimpleNamespace(translation=translation, call=SimpleNamespace(credential=credential), content=content)
    prepared_call: PreparedCall = call
    return prepared_call


def test_the_job_of_a_question_is_that_of_the_call_as_far_as_the_provider_and_the_cost_go() -> None:
    job = responses_job(base_url="https://own.example.com", asked_terms={"speed": "fast"})
    kept = with_id(kept_response(job, prepared(job)), "resp_1")
    assert kept is not None
    asked = job_of("prj", lost(attempt("prj", "key"), hold=1, day=date(2026, 3, 1)), kept)
    for name in ("kind", "base_url", "price", "asked_terms", "unpriced", "is_passthrough"):
        assert getattr(asked, name) == getattr(job, name), name
    assert (asked.asked_operation, asked.identity.project_id, asked.body) == ("responses", "prj", None)


def test_a_response_in_the_background_has_a_price_once_it_is_done_and_what_else_has_none_keeps_having_none() -> None:
    job = responses_job(unpriced=("background", "image_generation_call"))
    kept = kept_response(job, prepared(job))
    assert kept is not None
    assert kept.unpriced == ("image_generation_call",)


def test_what_is_not_kept_or_not_passed_on_or_has_no_price_or_no_id_is_not_asked_for() -> None:
    job = responses_job()
    assert kept_response(job, prepared(job, b'{"store": false}')) is None
    assert kept_response(responses_job(is_passthrough=False), prepared(job)) is None
    assert kept_response(responses_job(price=None), prepared(job)) is None
    assert with_id(kept_response(job, prepared(job)), "") is None


def test_a_provider_is_asked_a_bounded_number_of_times_all_of_them_before_the_attempt_is_too_old() -> None:
    assert list(WAITS_S) == sorted(WAITS_S)
    assert sum(WAITS_S) < ASKED_WITHIN_S / 2


class Keys:
    """A project that has hidden the installation's keys since."""

    def __init__(self, of_owner: Mapping[str, tuple[Access, ...]]) -> None:
        self._of_owner = of_owner

    async def accesses(self, owner: str, _provider: str) -> tuple[Access, ...]:
        return self._of_owner.get(owner, ())


class Asked(Exception):
    """The credential of a question."""


class Provider:
    async def send(self, _content: bytes, call: ProviderCall) -> bytes:
        raise Asked(call.credential.api_key if call.credential is not None else None)


async def asked_with(kept: KeptResponse, of_owner: Mapping[str, tuple[Access, ...]]) -> object:
    """Ask for a response; the key of the question, None if none is asked."""
    providers: Any = {kept.kind: Provider()}
    keys: Any = Keys(of_owner)
    blobs: Any = None
    calls = ProviderCalls(providers=providers, dialects=DIALECTS, keys=keys, base_urls={}, blobs=blobs)
    job = job_of("prj", replace(lost(attempt("prj", "key"), hold=1, day=date(2026, 3, 1)), provider="openai"), kept)
    try:
        return await calls.kept_response(job, kept)
    except Asked as asked:
        return asked.args[0]


async def test_a_question_goes_under_the_credential_of_the_call_whatever_was_added_since() -> None:
    made_with = Credential("installations", stored_as="default")
    job = responses_job()
    kept = with_id(kept_response(job, prepared(job, credential=made_with)), "resp_1")
    assert kept is not None
    installation, second = Access("installations"), Access("second", name="second")
    own = Access("own", is_own=True)
    assert await asked_with(kept, {"prj": (own,), INSTALLATION: (installation,)}) == "installations"
    assert await asked_with(kept, {INSTALLATION: (second, installation)}) == "installations"
    assert await asked_with(kept, {"prj": (own,), INSTALLATION: (second,)}) is None
    of_project = replace(kept, is_own=True)
    assert await asked_with(of_project, {"prj": (own,), INSTALLATION: (installation,)}) == "own"
    assert await asked_with(of_project, {"prj": (installation,)}) is None, "it is the installation's, in its place"
