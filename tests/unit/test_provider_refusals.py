"""A provider's refusal is recognised by its own code and words, whichever provider it is."""

import pytest

from domain.provider_refusals import Refusal, recognise


def of(reason: str, asked: int | None = None, limit: int | None = None) -> Refusal:
    return Refusal(reason=reason, asked=asked, limit=limit)  # type: ignore[arg-type]


LONG = {
    "Anthropic": ("prompt is too long: 208310 tokens > 200000 maximum", of("context_length", 208_310, 200_000)),
    "Anthropic, with the answer": (
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or "
        "`max_tokens` and try again",
        of("context_length", 210_000, 200_000),
    ),
    "OpenAI": (
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 150001 tokens. "
        "Please reduce the length of the messages.",
        of("context_length", 150_001, 128_000),
    ),
    "OpenAI, with the answer": (
        "This model's maximum context length is 8192 tokens. However, you requested 9096 tokens (4096 in the messages, "
        "5000 in the completion). Please reduce the length of the messages or completion.",
        of("context_length", 9_096, 8_192),
    ),
    "OpenAI's Responses API": (
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        of("context_length"),
    ),
    "Gemini": (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        of("context_length", 1_200_000, 1_048_576),
    ),
    "xAI": (
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        of("context_length", 537_812, 131_072),
    ),
    "Groq": ("Please reduce the length of the messages or completion.", of("context_length")),
    "Mistral": (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        of("context_length", 40_000, 32_768),
    ),
    "vLLM": (
        "The decoder prompt (length 10000) is longer than the maximum model length of 4096.",
        of("context_length", 10_000, 4_096),
    ),
    "OpenRouter": (
        "This endpoint's maximum context length is 128,000 tokens. However, you requested about 200,500 tokens",
        of("context_length", 200_500, 128_000),
    ),
    "llama.cpp": (
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        of("context_length"),
    ),
    "Ollama": ("the input length exceeds the context length", of("context_length")),
    "Moonshot": ("Invalid request: Your request exceeded model token limit: 131072", of("context_length")),
    "MiniMax": ("invalid params, context window exceeds limit (2013)", of("context_length")),
    "Z.ai": ("Prompt exceeds max length", of("context_length")),
    "Alibaba": ("Range of input length should be [1, 98304]", of("context_length")),
    "Bedrock": ("Input is too long for requested model.", of("context_length")),
    "GitHub": ("prompt token count of 140000 exceeds the limit of 128000", of("context_length", 140_000, 128_000)),
    "Cerebras": (
        "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
        of("context_length", 9_000, 8_192),
    ),
}
OTHERS = {
    "Anthropic's cap": (
        "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-sonnet",
        of("output_cap", 100_000, 8_192),
    ),
    "OpenAI's cap": (
        "max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you provided "
        "32000.",
        of("output_cap", 32_000, 16_384),
    ),
    "DeepSeek's cap": ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", of("output_cap")),
    "Azure's filter": (
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        of("content_filter"),
    ),
    "OpenAI's filter": (
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        of("content_filter"),
    ),
    "Anthropic's filter": ("Output blocked by content filtering policy", of("content_filter")),
    "Alibaba's filter": ("Input data may contain inappropriate content.", of("content_filter")),
    "Anthropic's model": ("model: claude-nowhere", of("model_not_found")),
    "OpenAI's model": (
        "The model `gpt-nowhere` does not exist or you do not have access to it.",
        of("model_not_found"),
    ),
    "Groq's model": ("The model `llama3-70b-8192` has been decommissioned", of("model_not_found")),
    "Anthropic's credit": (
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
        of("billing"),
    ),
    "DeepSeek's credit": ("Insufficient Balance", of("billing")),
    "OpenRouter's credit": ("This request requires more credits, or fewer max_tokens.", of("billing")),
}


@pytest.mark.parametrize(("message", "refusal"), [*LONG.values(), *OTHERS.values()], ids=[*LONG, *OTHERS])
def test_a_refusal_is_recognised_by_its_words(message: str, refusal: Refusal) -> None:
    assert recognise(message) == refusal


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("context_length_exceeded", "context_length"),
        ("content_filter", "content_filter"),
        ("model_not_found", "model_not_found"),
        ("insufficient_quota", "billing"),
        ("exceed_context_size_error", "context_length"),
    ],
)
def test_a_refusal_is_recognised_by_its_code(code: str, reason: str) -> None:
    assert recognise("words that nobody knows", code) == of(reason)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "refused with 400",
        "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 10000, Used 9000.",
        "You exceeded your current quota, please check your plan and billing details.",
        "Invalid value: 'assistant'. Supported values are: 'user'.",
        "messages.1.content: each tool_use must have a single result",
        "temperature: range: 0..1",
        "Overloaded",
    ],
)
def test_other_refusals_stay_what_they_are(message: str) -> None:
    assert recognise(message) is None


def test_a_long_message_is_read_in_little_time() -> None:
    assert recognise("max_tokens" * 100_000 + "1" * 100_000) is None


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (500, "the input length exceeds the context length", "context_length"),
        (500, "The model `m` was not found: it is being loaded", None),
        (429, "prompt is too long for what is left of this minute", None),
        (401, "Your credit balance is too low", None),
        (403, "Your credit balance is too low", "billing"),
        (402, "pay first", "billing"),
        (302, "prompt is too long", None),
    ],
)
def test_words_count_where_the_status_may_mean_them(status: int, message: str, reason: str | None) -> None:
    assert recognise(message, status=status) == (of(reason) if reason is not None else None)
