"""Recognises why a provider refused a request, from its own code and words. Pure. `api/vendors/refusal_words.py` says
it again in the words that a client knows.

Agents act on these words: they compact their history when a prompt is too long, ask for less output when a cap is too
high, and stop when an account is empty. The providers of one dialect share its shapes, not its words. Sources are the
providers' own messages as they stand in public threads; a new one is a new row.
"""

import re
from typing import Literal, get_args

from msgspec import Struct

Reason = Literal["context_length", "output_cap", "content_filter", "model_not_found", "billing"]
MAX_READ_CHARS = 2_000
"""Of a message."""


class Refusal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a provider refused a request."""

    reason: Reason
    asked: int | None = None
    """The tokens of the request, or the output cap that it set; None: the provider does not tell."""
    limit: int | None = None
    """The most that the model takes, in tokens; None: the provider does not tell."""


_CODES: dict[str, Reason] = {
    "context_length_exceeded": "context_length",  # OpenAI, Azure, Groq, DeepSeek, Cerebras
    "exceed_context_size_error": "context_length",  # llama.cpp
    "content_filter": "content_filter",  # Azure
    "content_policy_violation": "content_filter",  # OpenAI
    "invalid_prompt": "content_filter",  # OpenAI's reasoning models
    "data_inspection_failed": "content_filter",  # Alibaba
    "model_not_found": "model_not_found",
    "model_decommissioned": "model_not_found",  # Groq
    "insufficient_quota": "billing",  # OpenAI
    "billing_hard_limit_reached": "billing",
    "billing_not_active": "billing",
    "billing_error": "billing",  # Anthropic
    "insufficient_credits": "billing",
}

_SIGNS: tuple[tuple[Reason, str], ...] = (
    # before the words on prompts, which name `max_tokens` as well
    ("output_cap", r"which is the maximum allowed number of output tokens"),  # Anthropic
    ("output_cap", r"max_(completion_|output_)?tokens\b.{0,40}(is )?too large"),  # OpenAI
    ("output_cap", r"at most \d+ completion tokens"),  # OpenAI
    ("output_cap", r"max_(completion_|output_)?tokens\b.{0,40}must be (less|<|at most|in \[)"),  # Groq, Alibaba
    ("output_cap", r"valid range of max_tokens"),  # DeepSeek
    ("context_length", r"prompt is too long"),  # Anthropic
    ("context_length", r"input length and `?max_tokens`? exceed context limit"),  # Anthropic
    ("context_length", r"maximum context length"),  # OpenAI, vLLM, DeepSeek, OpenRouter, Mistral
    ("context_length", r"exceeds? the context window"),  # OpenAI's Responses API
    ("context_length", r"input token count.{0,40}exceeds"),  # Gemini
    ("context_length", r"maximum (prompt|input|model) length"),  # xAI, vLLM
    ("context_length", r"(prompt|input) exceeds (the )?max(imum)? length"),  # Z.ai
    ("context_length", r"reduce the length of the (messages|prompt)"),  # Groq, Cerebras
    ("context_length", r"(the |available )context (size|length)"),  # llama.cpp, LM Studio, Ollama
    ("context_length", r"exceeds?.{0,20} context (size|length|limit)"),
    ("context_length", r"context window exceeds limit"),  # MiniMax
    ("context_length", r"exceeded model token limit"),  # Moonshot
    ("context_length", r"range of input length should be"),  # Alibaba
    ("context_length", r"(prompt|input) token count of \d+ exceeds"),  # GitHub
    ("context_length", r"too many (input )?tokens"),  # Cohere
    ("context_length", r"(input|prompt) is too long"),  # Bedrock
    ("context_length", r"tokens` \+ `?max_new_tokens"),  # Hugging Face, Together
    ("content_filter", r"content (management |filtering )?policy|content filter"),  # Azure, OpenAI, Anthropic
    ("content_filter", r"flagged as potentially violating|rejected as a result of our safety system"),  # OpenAI
    ("content_filter", r"inappropriate content|content exists risk"),  # Alibaba, DeepSeek
    ("model_not_found", r"^model: \S+$"),  # Anthropic
    ("model_not_found", r"model\b.{0,120}(does not exist|not found|decommissioned|been deprecated)"),
    ("model_not_found", r"no such model|unknown model|not a valid model|model not exist"),
    ("billing", r"credit balance is too low"),  # Anthropic
    ("billing", r"insufficient (balance|credits?|funds)"),  # DeepSeek, OpenRouter
    ("billing", r"requires more credits|out of credits|used all available credits"),  # OpenRouter, xAI
)
"""Tried in order. "You exceeded your current quota" is not here: OpenAI says it of an empty account, which its code
tells, and Gemini of a limit per minute.
"""

_WORDS = tuple((reason, re.compile(words, re.IGNORECASE)) for reason, words in _SIGNS)

_NUMBERS: tuple[re.Pattern[str], ...] = tuple(
    re.compile(words, re.IGNORECASE | re.DOTALL)
    for words in (
        r"max_tokens: (?P<asked>\d+) > (?P<limit>\d+)",
        r"(?P<asked>\d+) tokens > (?P<limit>\d+)",
        r"exceed context limit: (?P<asked>\d+) \+ (?P<more>\d+) > (?P<limit>\d+)",
        r"maximum (?:context|prompt) length (?:is|of) (?P<limit>\d+)\D.*?"
        r"(?:resulted in|requested(?: about)?|contains|has) (?P<asked>\d+)",
        r"\((?P<asked>\d+)\) exceeds.{0,60}\((?P<limit>\d+)\)",
        r"contains (?P<asked>\d+) tokens.*?(?P<limit>\d+) maximum context length",
        r"token count of (?P<asked>\d+) exceeds the limit of (?P<limit>\d+)",
        r"length (?P<asked>\d+)\).*?maximum model length of (?P<limit>\d+)",
        r"current length is (?P<asked>\d+) while limit is (?P<limit>\d+)",
        r"too large: (?P<asked>\d+)\. This model supports at most (?P<limit>\d+)",
        r"\((?P<asked>\d+) tokens\).{0,60}\((?P<limit>\d+) tokens\)",
    )
)
_MAX_DIGITS = 15
"""More are no number of tokens."""
_PAYMENT_REQUIRED = 402
_REASONS: frozenset[Reason] = frozenset(get_args(Reason))
_OF_STATUS: dict[int, frozenset[Reason]] = {
    401: frozenset(),  # our key, whatever it says
    403: frozenset({"billing", "content_filter"}),
    429: frozenset({"billing"}),
}
"""What a status may mean beside what it says itself."""
_OF_FAILURE: frozenset[Reason] = frozenset({"context_length"})
"""Some providers (Ollama, llama.cpp) answer 500 to what is too long."""
_GROUPED = re.compile(r"(?<=\d),(?=\d{3})")


def recognise(message: str, code: str = "", status: int = 400) -> Refusal | None:
    """The reason of a refusal, with its figures; None: none that a client knows. `code` is the provider's own."""
    text = _GROUPED.sub("", message[:MAX_READ_CHARS])
    reason = _CODES.get(code) or next((reason for reason, words in _WORDS if words.search(text)), None)
    if reason is None:
        return Refusal(reason="billing") if status == _PAYMENT_REQUIRED else None
    if reason not in _meant_by(status):
        return None
    if reason not in ("context_length", "output_cap"):
        return Refusal(reason=reason)
    found = next((match for words in _NUMBERS if (match := words.search(text))), None)
    if found is None:
        return Refusal(reason=reason)
    numbers = {name: int(digits[:_MAX_DIGITS]) for name, digits in found.groupdict().items() if digits is not None}
    return Refusal(reason=reason, asked=numbers["asked"] + numbers.get("more", 0), limit=numbers["limit"])


def _meant_by(status: int) -> frozenset[Reason]:
    return _OF_FAILURE if status >= 500 else _OF_STATUS.get(status, _REASONS) if status >= 400 else frozenset()
