"""Objects at a provider under a shared credential belong to the project that made them at that provider."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.dialects.openai.codec import OpenAiResponses
from domain.dialects.passthrough.inspect import read_passthrough
from domain.errors import NotFound
from domain.events import (
    Event,
    ProviderConfigured,
    ProviderKeySet,
    ProviderRemoved,
    RequestCompleted,
    project_stream,
    provider_stream,
    request_stream,
)
from domain.tokens import TokenUsage
from infra.event_log import Commit
from infra.provider_object_ownership import ProviderObjectOwnership
from tests.support.ledger import RealLedger

AT = datetime(2026, 3, 1, tzinfo=UTC)
GOES_ON = read_passthrough(b'{"model":"m","input":"x","previous_response_id":"resp_1"}', OpenAiResponses())
CONFIGURED = ProviderConfigured(name="corp", kind="openai", base_url="https://llm.example.com/v1", hint="1234")


async def append(ledger: RealLedger, stream: str, at: datetime, *events: Event) -> None:
    await ledger.log.append(Commit(stream=stream, expected_version=0, project_id="prj_1", at=at, events=events))


async def answered(
    ledger: RealLedger,
    provider: str,
    *,
    admitted_at: datetime = AT,
    took: timedelta,
    item_ids: tuple[str, ...] = (),
) -> None:
    completed = RequestCompleted(
        request_id="req_1",
        key_id="key_1",
        operation="responses",
        model="m",
        provider=provider,
        attempt=1,
        upstream_model="m",
        answered_by="m",
        response_id="resp_1",
        usage=TokenUsage(),
        latency_ms=took // timedelta(milliseconds=1),
        request_bytes=1,
        answer_bytes=1,
        answer_digest="00",
        item_ids=item_ids,
    )
    await append(ledger, request_stream("req_1"), admitted_at + took, completed)


async def test_only_the_owner_continues_a_response(ledger: RealLedger) -> None:
    await answered(ledger, "openai", took=timedelta(seconds=1))
    objects = ProviderObjectOwnership(ledger.pool)
    await objects.check("prj_1", "openai", GOES_ON)
    with pytest.raises(NotFound):
        await objects.check("prj_2", "openai", GOES_ON)


async def test_response_id_of_another_provider_is_refused(ledger: RealLedger) -> None:
    await answered(ledger, "corp", took=timedelta(seconds=1))
    with pytest.raises(NotFound):
        await ProviderObjectOwnership(ledger.pool).check("prj_1", "openai", GOES_ON)


async def test_response_of_an_own_provider_is_not_its_namesakes(ledger: RealLedger) -> None:
    await append(ledger, provider_stream("prj_1", "corp"), AT, CONFIGURED, ProviderRemoved(name="corp"))
    await answered(ledger, "corp", admitted_at=AT - timedelta(seconds=1), took=timedelta(hours=1))
    with pytest.raises(NotFound):
        await ProviderObjectOwnership(ledger.pool).check("prj_1", "corp", GOES_ON)


async def test_own_key_responses_are_not_shared(
    ledger: RealLedger,
) -> None:
    await append(ledger, project_stream("prj_1"), AT, ProviderKeySet(provider="openai", hint=None))
    await answered(ledger, "openai", admitted_at=AT - timedelta(hours=1), took=timedelta(seconds=1))
    with pytest.raises(NotFound):
        await ProviderObjectOwnership(ledger.pool).check("prj_1", "openai", GOES_ON)


async def test_responses_after_the_own_key_was_removed_count(ledger: RealLedger) -> None:
    await append(ledger, provider_stream("prj_1", "corp"), AT, CONFIGURED, ProviderRemoved(name="corp"))
    await append(ledger, project_stream("prj_1"), AT, ProviderKeySet(provider="openai", hint=None))
    since = AT + timedelta(minutes=2)
    await answered(ledger, "corp", admitted_at=since, took=timedelta(seconds=1))
    await ProviderObjectOwnership(ledger.pool).check("prj_1", "corp", GOES_ON)


NAMES_ITEMS = read_passthrough(
    b'{"model":"m","input":[{"type":"item_reference","id":"msg_1"},{"id":"fc_1"},{"role":"user","content":"x"}]}',
    OpenAiResponses(),
)


async def test_items_of_answers_belong_to_the_project(ledger: RealLedger) -> None:
    await answered(ledger, "openai", took=timedelta(seconds=1), item_ids=("msg_1", "fc_1", "rs_1"))
    objects = ProviderObjectOwnership(ledger.pool)
    assert not await objects.check("prj_1", "openai", NAMES_ITEMS)
    with pytest.raises(NotFound, match="did not come with an answer"):
        await objects.check("prj_2", "openai", NAMES_ITEMS)
    with pytest.raises(NotFound, match="did not come with an answer"):
        await objects.check("prj_1", "corp", NAMES_ITEMS)


async def test_an_item_that_no_answer_had_is_refused(ledger: RealLedger) -> None:
    await answered(ledger, "openai", took=timedelta(seconds=1), item_ids=("msg_1",))
    with pytest.raises(NotFound, match="'fc_1'"):
        await ProviderObjectOwnership(ledger.pool).check("prj_1", "openai", NAMES_ITEMS)
