"""The usage of a cut stream is estimated at its maximum, so it is never below the provider's charge."""

import msgspec
import pytest
from msgspec.structs import replace

from domain.dialects.codec import ProviderResponse
from domain.dialects.registry import DIALECTS
from domain.dialects.relay import Relay
from domain.extras import Extras
from domain.models import MAX_UNSEEN_TOKENS_PER_S, may_think_unseen
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price
from domain.tokens import TokenUsage
from infra.jobs import Job, StreamFormat
from tests.support.jobs import make_job
from tests.support.sdk_streams import events_of
from workers.estimated_usage import UNDER_WAY_TOKENS, UnseenTime, assumed_cost, estimated_usage, with_usage
from workers.streaming import attempt_result, open_relay

JOB = make_job(
    model="m",
    provider="openai",
    kind="openai",
    upstream_model="m",
    is_passthrough=True,
    stream=StreamFormat(surface="openai"),
    input_bound=100,
    output_bound=5_000,
)
BEGUN = b'data: {"id":"x","model":"m","choices":[{"index":0,"delta":{"content":"four"}}]}\n\n'
MESSAGE_BEGUN = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"x","type":"message","role":"assistant",'
    b'"model":"m","content":[],"usage":{"input_tokens":7,"cache_read_input_tokens":2,"output_tokens":1}}}\n\n'
)


def relay_of(job: Job) -> Relay:
    assert job.stream is not None
    surface, operation = job.stream.surface, job.identity.operation
    return open_relay(DIALECTS.chosen(surface, operation, job.kind, is_passthrough=job.is_passthrough), job)


def counted(job: Job, sent: bytes, elapsed_s: float) -> TokenUsage:
    relay = relay_of(job)
    relay.take(events_of(sent), [])
    found = attempt_result(relay.reader, job, elapsed_s)
    assert found.is_estimated
    return found.usage


def test_estimate_uses_bytes_and_the_prompt_bound() -> None:
    assert counted(JOB, BEGUN, elapsed_s=60) == TokenUsage(input=100, output=4 + UNDER_WAY_TOKENS)


def test_reported_prompt_usage_is_used() -> None:
    identity = replace(JOB.identity, provider="anthropic")
    job = replace(JOB, identity=identity, kind="anthropic", stream=StreamFormat(surface="anthropic"))
    assert counted(job, MESSAGE_BEGUN, elapsed_s=60) == TokenUsage(input=7, cache_read=2, output=UNDER_WAY_TOKENS)


@pytest.mark.parametrize("sent", [b"", BEGUN])
def test_hidden_thinking_is_estimated_by_time(sent: bytes) -> None:
    job = replace(JOB, may_think_unseen=True)
    shown = 4 if sent else 0
    assert counted(job, sent, elapsed_s=1.5).output == shown + UNDER_WAY_TOKENS + 1.5 * MAX_UNSEEN_TOKENS_PER_S


def test_no_answer_counts_as_longer_than_its_cap() -> None:
    assert counted(replace(JOB, may_think_unseen=True), BEGUN, elapsed_s=60).output == JOB.output_bound


@pytest.mark.parametrize(
    ("model", "may"),
    [
        ("gpt-4o-mini-2024-07-18", False),
        ("claude-3-5-sonnet-20241022", False),
        ("echo", False),
        ("o3", True),
        ("gpt-5-mini", True),
        ("claude-sonnet-4-5", True),
        ("a-model-that-nobody-knows", True),
    ],
)
def test_a_model_of_which_nothing_is_known_may_think_unseen(model: str, may: bool) -> None:
    assert may_think_unseen(model) is may


def test_an_answer_without_usage_counts_as_many_tokens_as_it_has_bytes_and_shows_them() -> None:
    given = ProviderResponse(
        body=b'{"id":"x","usage":{}}', usage=None, received_output_bytes=7, answered_by="m", response_id="x"
    )
    response, usage, is_estimated = with_usage(given, replace(JOB, is_passthrough=False), 60)
    assert is_estimated
    assert usage == TokenUsage(input=100, output=7)
    assert msgspec.json.decode(response.body)["usage"]["totalTokens"] == 107


def test_a_passed_through_answer_without_usage_stays_as_it_came() -> None:
    given = ProviderResponse(body=b'{"id":"x"}', usage=None, answered_by="m", response_id="x")
    assert with_usage(given, JOB, 0)[0].body == b'{"id":"x"}'


def test_every_choice_of_a_cut_stream_may_have_more_under_way_and_think_unseen() -> None:
    job = replace(JOB, choices=3, may_think_unseen=True)
    assert counted(job, BEGUN, elapsed_s=0.5).output == 4 + 3 * (UNDER_WAY_TOKENS + 0.5 * MAX_UNSEEN_TOKENS_PER_S)


def test_what_may_be_speech_counts_as_speech_which_costs_more_than_text() -> None:
    job = replace(JOB, writes_audio=True, audio_bound=40)
    assert counted(job, BEGUN, elapsed_s=0) == TokenUsage(input=60, input_audio=40, output_audio=4 + UNDER_WAY_TOKENS)
    price = Price(
        provider="p", model="m", source="s", prices=ClassPrices(input=1, output=2, input_audio=9, output_audio=10**9)
    )
    assert assumed_cost(replace(job, price=price), NanoUsd(10**9), 0) == 1_000 * UNDER_WAY_TOKENS


def test_a_prompt_of_which_nothing_was_said_counts_as_the_dearest_that_it_can_be() -> None:
    job = replace(JOB, input_class="cache_write_1h")
    assert counted(job, BEGUN, elapsed_s=0) == TokenUsage(cache_write_1h=100, output=4 + UNDER_WAY_TOKENS)


def test_what_is_charged_and_does_not_come_is_added() -> None:
    job = replace(JOB, unseen_input_tokens=50, unseen_output_tokens=30)
    assert counted(job, BEGUN, elapsed_s=0) == TokenUsage(input=150, output=4 + UNDER_WAY_TOKENS + 30)


def test_calls_of_hosted_tools_may_each_have_read_the_window_again() -> None:
    job = replace(JOB, stream=StreamFormat(surface="openai"), context_window=1_000)
    given = ProviderResponse(
        body=b"{}", usage=None, answered_by="m", response_id="x", extras=Extras(uses={"web_search": 2})
    )
    assert estimated_usage(given, job, 0, is_whole=False).input == JOB.input_bound + 2_000


def test_no_model_thinks_between_the_pieces_of_what_it_writes() -> None:
    unseen = UnseenTime(0.0)
    for now_s, run in ((3.0, 1), (4.0, 1), (5.0, 1), (7.0, None), (8.0, 2), (9.0, 2)):
        unseen.saw(now_s, run)
    assert unseen.until(9.5) == 3.0 + 2.0 + 1.0 + 0.5


THINKS_AND_WRITES = {
    "anthropic": [
        (b'{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}', False),
        (b'{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}', False),
        (b'{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}', False),
        (b'{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"hello"}}', True),
    ],
    "openai": [
        (b'{"choices":[{"delta":{"reasoning_content":"hm"}}]}', False),
        (b'{"choices":[{"delta":{"content":"hello"}}]}', True),
        (b'{"choices":[{"delta":{"reasoning":"hm"}}]}', False),
    ],
}


@pytest.mark.parametrize("dialect", sorted(THINKS_AND_WRITES))
def test_a_reader_knows_whether_the_model_writes_its_answer(dialect: str) -> None:
    reader = DIALECTS.codec(dialect, "chat").stream_reader()
    for data, writes in THINKS_AND_WRITES[dialect]:
        for event in events_of(b"data: " + data + b"\n\n"):
            reader.take(event)
        assert (reader.writing_run is not None) is writes


def test_a_lost_stream_is_assumed_to_have_cost_what_can_be_written_in_its_time() -> None:
    price = Price(provider="p", model="m", source="s", prices=ClassPrices(input=1_000_000, output=2_000_000))
    job = replace(JOB, price=price)
    hold = NanoUsd(1_000_000)
    assert assumed_cost(job, hold, 1.0) == 100 + 2 * (MAX_UNSEEN_TOKENS_PER_S + UNDER_WAY_TOKENS)
    assert assumed_cost(job, hold, 1_000.0) == 100 + 2 * JOB.output_bound
    assert assumed_cost(job, NanoUsd(50), 1.0) == 50
    assert assumed_cost(replace(job, stream=None), hold, 1.0) == hold
    assert assumed_cost(replace(job, price=None), hold, 1.0) == hold
    assert assumed_cost(replace(job, context_window=1_000), hold, 1.0) == hold
