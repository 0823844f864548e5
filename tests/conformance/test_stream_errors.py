"""Errors of streams: a plain HTTP error before the first byte, the SDK's own error after it."""

from typing import Any

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from tests.support.sdk_clients import CLAUDE, GPT, Project, entering, resolved, user

BOTH = (GPT, CLAUDE)
MIDDLE = FAILS, CUT = ("[[streamerror=3]] [[pace=80]]", "[[cut=3]] [[pace=80]]")
"""Deltas that the provider sends together with its failure may be lost: one to three of them arrive."""


async def taken(stream: Any, into: list[Any]) -> None:
    """Append the items of a stream to `into` until it ends or fails."""
    opened = await resolved(stream)
    if hasattr(opened, "__aiter__"):
        async for one in opened:
            into.append(one)  # noqa: PERF401 - keeps the items before the failure
        return
    into.extend(opened)


def check_plain_http(error: Any, status: int) -> None:
    assert error.status_code == status
    assert error.response.headers["content-type"].startswith("application/json")
    assert error.request_id.startswith("req_")


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("[[status=400]]", openai_sdk.BadRequestError, 400),
        ("[[status=429]]", openai_sdk.RateLimitError, 429),
        ("[[status=500]]", openai_sdk.InternalServerError, 502),
        ("[[reset]]", openai_sdk.InternalServerError, 502),
    ],
)
async def test_error_before_a_chat_stream_is_plain_http(
    openai: Any, model: str, word: str, kind: type[Exception], status: int
) -> None:
    with pytest.raises(kind) as refused:
        await resolved(openai.chat.completions.create(model=model, messages=user(word), stream=True))
    check_plain_http(refused.value, status)


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("[[status=400]]", anthropic_sdk.BadRequestError, 400),
        ("[[status=429]]", anthropic_sdk.RateLimitError, 429),
        ("[[status=500]]", anthropic_sdk.InternalServerError, 502),
        ("[[reset]]", anthropic_sdk.InternalServerError, 502),
    ],
)
async def test_error_before_a_message_stream_is_plain_http(
    anthropic: Any, model: str, word: str, kind: type[Exception], status: int
) -> None:
    with pytest.raises(kind) as refused:
        await resolved(anthropic.messages.create(model=model, max_tokens=50, messages=user(word), stream=True))
    check_plain_http(refused.value, status)


async def test_a_spent_budget_and_an_unknown_model_end_no_stream(openai: Any, anthropic: Any, project: Project) -> None:
    spent = project.issue(dailyBudget=0)["apiKey"]
    with pytest.raises(openai_sdk.RateLimitError):
        await resolved(
            openai.with_options(api_key=spent).chat.completions.create(model=GPT, messages=user("x"), stream=True)
        )
    with pytest.raises(openai_sdk.NotFoundError):
        await resolved(openai.responses.create(model="llama-nowhere", input="x", stream=True))
    with pytest.raises(anthropic_sdk.PaymentRequiredError):
        async with entering(
            anthropic.with_options(api_key=spent).messages.stream(model=GPT, max_tokens=9, messages=user("x"))
        ):
            raise AssertionError("it has not begun")


@pytest.mark.parametrize(
    ("model", "word", "kind"),
    [(GPT, FAILS, "server_error"), (GPT, CUT, "api_error"), (CLAUDE, FAILS, "api_error"), (CLAUDE, CUT, "api_error")],
)
async def test_a_chat_stream_that_breaks_off_raises_the_sdks_error(
    openai: Any, model: str, word: str, kind: str
) -> None:
    seen: list[Any] = []
    with pytest.raises(openai_sdk.APIError) as broken:
        await taken(openai.chat.completions.create(model=model, messages=user(f"{word} broken"), stream=True), seen)
    said = [chunk.choices[0].delta.content for chunk in seen if chunk.choices[0].delta.content]
    assert 1 <= len(said) <= 3
    assert all(chunk.choices[0].finish_reason is None for chunk in seen)
    assert type(broken.value) is openai_sdk.APIError
    assert broken.value.type == kind  # the provider's own error, if it is in this dialect
    assert set(broken.value.body) == {"message", "type", "param", "code"}
    assert broken.value.message == broken.value.body["message"] != ""


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("word", MIDDLE)
async def test_the_chat_stream_helper_raises_it_too(openai: Any, model: str, word: str) -> None:
    async with entering(openai.chat.completions.stream(model=model, messages=user(f"{word} helped"))) as stream:
        with pytest.raises(openai_sdk.APIError):
            await resolved(stream.get_final_completion())


@pytest.mark.parametrize(
    ("model", "word", "kind"),
    [
        (CLAUDE, FAILS, "overloaded_error"),
        (CLAUDE, CUT, "api_error"),
        (GPT, FAILS, "api_error"),
        (GPT, CUT, "api_error"),
    ],
)
async def test_a_message_stream_that_breaks_off_raises_the_sdks_error(
    anthropic: Any, model: str, word: str, kind: str
) -> None:
    seen: list[Any] = []
    with pytest.raises(anthropic_sdk.APIStatusError) as broken:
        await taken(
            anthropic.messages.create(model=model, max_tokens=50, messages=user(f"{word} broken"), stream=True), seen
        )
    kinds = [event.type for event in seen]
    assert 1 <= kinds.count("content_block_delta") <= 3
    assert "message_stop" not in kinds
    error: Any = broken.value
    assert error.type == kind
    assert error.api_message


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("word", MIDDLE)
async def test_the_message_stream_helper_raises_it_too(anthropic: Any, model: str, word: str) -> None:
    with pytest.raises(anthropic_sdk.APIStatusError):
        async with entering(
            anthropic.messages.stream(model=model, max_tokens=50, messages=user(f"{word} helped"))
        ) as stream:
            await resolved(stream.get_final_message())


@pytest.mark.parametrize("word", MIDDLE)
async def test_broken_response_stream_ends_with_its_error(openai: Any, word: str) -> None:
    end = ["error", "response.failed"]
    seen: list[Any] = []
    await taken(openai.responses.create(model=GPT, input=f"{word} broken", stream=True), seen)
    assert 1 <= [event.type for event in seen].count("response.output_text.delta") <= 3
    assert [event.type for event in seen[-len(end) :]] == end
    assert seen[-len(end)].message
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
