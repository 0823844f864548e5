"""Says why a provider refused a request in the words, codes and statuses that a vendor's clients know.

The clients compare them: Claude Code compacts its history at "prompt is too long", Codex at the code
`context_length_exceeded`, LiteLLM and LangChain look for both. Only for what is not passed on as its provider wrote it.
"""

from msgspec import Struct

from domain.provider_refusals import Reason, Refusal

INVALID = "invalid_request_error"


class Words(Struct, frozen=True, kw_only=True):
    """A refusal as the clients of one vendor know it."""

    status: int
    type: str
    code: str | None = None
    """Only OpenAI has codes and params."""
    param: str | None = None
    with_figures: str | None = None
    """The message; the names in braces are a refusal's figures and its provider's message."""
    without_figures: str = "{message}"

    def message(self, refusal: Refusal, said: str) -> str:
        """The client's message; `said` is the provider's."""
        has_figures = refusal.asked is not None and refusal.limit is not None and self.with_figures is not None
        text = self.with_figures if has_figures else self.without_figures
        assert text is not None, "one with figures was looked for"
        return text.format(asked=refusal.asked, limit=refusal.limit, message=said)


OPENAI_WORDS: dict[Reason, Words] = {
    "context_length": Words(
        status=400,
        type=INVALID,
        code="context_length_exceeded",
        param="messages",
        with_figures="This model's maximum context length is {limit} tokens. However, your messages resulted in "
        "{asked} tokens. Please reduce the length of the messages.",
        without_figures="Your input exceeds the context window of this model. Please adjust your input and try again. "
        "The provider says: {message}",
    ),
    "output_cap": Words(
        status=400,
        type=INVALID,
        code="invalid_value",
        param="max_tokens",
        with_figures="max_tokens is too large: {asked}. This model supports at most {limit} completion tokens, whereas "
        "you provided {asked}.",
        without_figures="max_tokens is too large: {message}",
    ),
    "content_filter": Words(status=400, type=INVALID, code="content_policy_violation"),
    "model_not_found": Words(
        status=404,
        type=INVALID,
        code="model_not_found",
        param="model",
        without_figures="The model does not exist at its provider, or its key has no access to it: {message}",
    ),
    "billing": Words(
        status=429,
        type="insufficient_quota",
        code="insufficient_quota",
        without_figures="The gateway's account at the provider has no credit left: {message}",
    ),
}
ANTHROPIC_WORDS: dict[Reason, Words] = {
    "context_length": Words(
        status=400,
        type=INVALID,
        with_figures="prompt is too long: {asked} tokens > {limit} maximum",
        without_figures="prompt is too long: {message}",
    ),
    "output_cap": Words(
        status=400,
        type=INVALID,
        with_figures="max_tokens: {asked} > {limit}, which is the maximum allowed number of output tokens for this "
        "model",
        without_figures="max_tokens: {message}",
    ),
    "content_filter": Words(
        status=400, type=INVALID, without_figures="Output blocked by content filtering policy: {message}"
    ),
    "model_not_found": Words(status=404, type="not_found_error", without_figures="model: {message}"),
    "billing": Words(
        status=402,
        type="billing_error",
        without_figures="Your credit balance is too low, that of the gateway's account at the provider: {message}",
    ),
}
