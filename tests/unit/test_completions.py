"""Text completions and moderations: what they may cost, and what is read of the answers."""

from typing import Any

import msgspec
import pytest

from domain.dialects.openai.completions import OpenAiCompletions, OpenAiCompletionsReader, OpenAiModerations
from domain.dialects.passthrough.inspect import PassthroughRequest, read_passthrough
from domain.dialects.sse import SseParser
from domain.errors import InvalidRequest
from domain.tokens import TokenUsage

MODEL = "gpt-3.5-turbo-instruct"


def completion(**fields: Any) -> PassthroughRequest:
    return read_passthrough(msgspec.json.encode({"model": MODEL, "prompt": "Say"} | fields), OpenAiCompletions())


def output_bound(*, is_builtin: bool = True, **fields: Any) -> int:
    return completion(**fields).token_bound(MODEL, 4_096, is_builtin=is_builtin).output_tokens


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 16),
        ({"max_tokens": None}, 16),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"max_tokens": 5, "n": 2, "best_of": 4}, 20),
        ({"best_of": 2}, 32),
        ({"prompt": ["a", "b", "c"]}, 48),
        ({"prompt": ["a", "b"], "n": 2, "max_tokens": 10}, 40),
        ({"prompt": [1, 2, 3]}, 16),
        ({"prompt": [[1, 2], [3]]}, 32),
        ({"prompt": []}, 16),
    ],
)
def test_every_answer_to_every_prompt_is_bounded(fields: dict[str, Any], most: int) -> None:
    assert output_bound(**fields) == most


def test_another_provider_may_have_another_default_cap() -> None:
    assert output_bound(is_builtin=False) > 1_000
    assert output_bound(is_builtin=False, max_tokens=7) == 7


def test_a_prompt_is_text_and_no_name_of_something_at_the_provider() -> None:
    read = completion(prompt="x" * 1_000)
    assert read.provider_object_ref is None
    assert not read.has_external_content
    assert 1_000 <= read.input_tokens < 1_200


@pytest.mark.parametrize("value", [0, -1, 129, "2"])
def test_a_number_of_candidates_that_is_none_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        completion(best_of=value)
    assert refused.value.field == "best_of"


def test_a_completion_is_metered() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    body = {"id": "cmpl-1", "model": MODEL, "choices": [{"text": "hi", "finish_reason": "length"}], "usage": usage}
    metered = OpenAiCompletions().meter_response(msgspec.json.encode(body))
    assert (metered.usage, metered.finish_reason) == (TokenUsage(input=3, output=4), "length")


def test_the_text_of_a_stream_counts_as_received() -> None:
    reader = OpenAiCompletionsReader()
    events = [
        {"id": "cmpl-1", "model": MODEL, "choices": [{"text": "né", "index": 0, "finish_reason": None}]},
        {"id": "cmpl-1", "model": MODEL, "choices": [{"text": "!", "index": 0, "finish_reason": "stop"}]},
        {"id": "cmpl-1", "model": MODEL, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    ]
    raw = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    for event in SseParser().feed(raw):
        reader.take(event)
    assert (reader.received_output_bytes, reader.is_ended, reader.finish_reason) == (4, True, "stop")
    assert reader.usage == TokenUsage(input=1, output=2)


def test_a_moderation_needs_no_model_and_counts_nothing() -> None:
    read = read_passthrough(b'{"input": "text"}', OpenAiModerations())
    assert read.model == "omni-moderation-latest"
    assert read.payload("omni-moderation-latest") == b'{"input": "text"}'
    metered = OpenAiModerations().meter_response(b'{"id": "modr-1", "model": "omni", "results": []}')
    assert (metered.usage, metered.response_id) == (TokenUsage(), "modr-1")


def test_a_moderation_that_its_provider_counts_is_counted() -> None:
    body = b'{"id": "m", "model": "mistral-moderation", "results": [], "usage": {"prompt_tokens": 8}}'
    assert OpenAiModerations().meter_response(body).usage == TokenUsage(input=8)
