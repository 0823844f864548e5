"""Several answers of a provider that gives one for each call are one answer with several choices."""

import msgspec
from msgspec.structs import replace

from domain.canonical.chat import AnswerMessage, ChatRequest, ChatResponse, Choice, UserMessage
from domain.dialects.choices import join_choices
from domain.dialects.codec import ProviderResponse
from domain.dialects.request_body import CanonicalRequest
from domain.extras import Extras
from domain.tokens import TokenUsage, answer_usage


def answer(text: str, usage: TokenUsage | None, *, finish_reason: str = "stop") -> ProviderResponse:
    shown = answer_usage(usage or TokenUsage())
    choice = Choice(index=0, message=AnswerMessage(content=text), finish_reason="stop")
    body = ChatResponse(id=f"id-{text}", model="m", provider="p", choices=[choice], usage=shown)
    return ProviderResponse(
        body=msgspec.json.encode(body),
        usage=usage,
        answered_by="m",
        response_id=f"id-{text}",
        finish_reason=finish_reason,
        received_output_bytes=len(text),
    )


def test_choices_are_numbered_in_the_order_of_the_calls() -> None:
    joined = msgspec.json.decode(join_choices([answer("a", TokenUsage()), answer("b", TokenUsage())]).body)
    assert [(choice["index"], choice["message"]["content"]) for choice in joined["choices"]] == [(0, "a"), (1, "b")]


def test_every_call_is_charged() -> None:
    joined = join_choices([answer("a", TokenUsage(input=10, output=1)), answer("b", TokenUsage(input=10, output=3))])
    assert joined.usage == TokenUsage(input=20, output=4)
    assert msgspec.json.decode(joined.body)["usage"]["totalTokens"] == 24


def test_each_call_has_read_a_prompt_of_its_own_length() -> None:
    usages = (TokenUsage(input=10, output=1), TokenUsage(input=10, output=3))
    assert join_choices([answer("a", usages[0]), answer("b", usages[1])]).extras.readings == usages


def test_each_turn_of_each_call_has_read_a_prompt_of_its_own_length() -> None:
    turns = (TokenUsage(input=150_000, output=1), TokenUsage(input=180_000, output=9))
    several = replace(answer("a", turns[0] + turns[1]), extras=Extras(readings=turns))
    once = answer("b", TokenUsage(input=10, output=3))
    joined = join_choices([several, once, several])
    assert joined.extras.readings == (*turns, TokenUsage(input=10, output=3), *turns)
    assert joined.usage == sum(joined.extras.readings, TokenUsage())


def test_tokens_are_unknown_if_one_call_does_not_say_them() -> None:
    joined = join_choices([answer("a", TokenUsage(input=10, output=1)), answer("bb", None)])
    assert joined.usage is None
    assert joined.received_output_bytes == 3


def test_an_answer_that_was_cut_cuts_the_joined_one() -> None:
    joined = join_choices([answer("a", TokenUsage()), answer("b", TokenUsage(), finish_reason="length")])
    assert joined.finish_reason == "length"


def test_each_call_holds_the_whole_input() -> None:
    request = ChatRequest(messages=[UserMessage(content="hello")], max_tokens=2_000, n=3)
    once = CanonicalRequest(request).token_bound("claude-sonnet-4-5", None, is_builtin=True)
    thrice = CanonicalRequest(request, 3).token_bound("claude-sonnet-4-5", None, is_builtin=True)
    assert thrice.input_tokens == 3 * once.input_tokens
    assert thrice.reading_tokens == once.reading_tokens == once.input_tokens
    assert (once.output_tokens, once.least_output_tokens) == (6_000, 3 * 1_024)


def test_a_lowered_cap_is_shared_by_the_choices() -> None:
    request = ChatRequest(messages=[UserMessage(content="hello")], max_tokens=2_000, n=3)
    lowered = CanonicalRequest(request, 3).with_output_cap(4_000, "claude-sonnet-4-5")
    assert (lowered.cap, lowered.output_tokens) == (1_333, 3_999)
    assert lowered.body.calls == 3
