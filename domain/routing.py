"""From the model name in a request to the provider that serves it and the name it knows the model by.

Does not know prices, credentials or addresses. A table of rules, tried in order; nothing else compares names.
"""

import re
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from domain.chat import DEFAULT_TEMPERATURE, ChatRequest
from domain.errors import UnknownModel

OPENAI = "openai"
ANTHROPIC = "anthropic"
ECHO = "echo"


class Route(Struct, frozen=True, kw_only=True):
    """Where a request goes."""

    model: str
    """The name as the caller wrote it."""
    provider: str
    upstream_model: str
    """The name that the provider is called with."""


UPSTREAM_MODELS: dict[str, str] = {
    "claude-3.5-sonnet": "claude-3-5-sonnet-20241022",
    "claude-3-opus": "claude-3-opus-20240229",
    "claude-3-haiku": "claude-3-haiku-20240307",
}
"""The specification's short names whose providers want a dated id. An operator may override any (models retire)."""

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"echo(-.+)?"), ECHO),
    (re.compile(r"claude-.+"), ANTHROPIC),
    (re.compile(r"(gpt-|chatgpt-|o\d|text-embedding-|codex-|computer-use-|ft:).*"), OPENAI),
)

_PROVIDERS = frozenset({OPENAI, ANTHROPIC, ECHO})

_NO_TEMPERATURE = re.compile(
    r"(o\d|gpt-5|codex-|computer-use-).*|gpt-4o.*-search-.*|claude-(opus|sonnet)-(4-[7-9]|[5-9]).*"
)
"""Models that refuse a temperature: OpenAI's reasoning and search models, Anthropic's from Opus 4.7 on."""

_MAX_COMPLETION_TOKENS = re.compile(r"(o\d|gpt-5|codex-).*")


def route(model: str, upstream_models: Mapping[str, str]) -> Route:
    """Find where a request for `model` goes; `upstream_models` are the installation's names before `UPSTREAM_MODELS`.

    Raises:
        UnknownModel: no rule matches.

    """
    provider, slash, rest = model.partition("/")
    if slash and provider in _PROVIDERS and rest:
        name = rest
    else:
        name = model
        provider = next((provider for rule, provider in _RULES if rule.fullmatch(model)), "")
        if not provider:
            raise UnknownModel(model)
    upstream_model = upstream_models.get(name) or UPSTREAM_MODELS.get(name, name)
    return Route(model=model, provider=provider, upstream_model=upstream_model)


def takes_temperature(upstream_model: str) -> bool:
    """Whether a temperature may be sent to this model at all."""
    return _NO_TEMPERATURE.fullmatch(upstream_model) is None


def settled_temperature(request: ChatRequest, upstream_model: str) -> ChatRequest:
    """The request with the default temperature where the caller left it out and the model takes one.

    A default is never the reason for a refusal: none is added beside `topP`, which some models refuse together.
    """
    if request.temperature is not None or request.top_p is not None or not takes_temperature(upstream_model):
        return request
    return replace(request, temperature=DEFAULT_TEMPERATURE)


def wants_max_completion_tokens(upstream_model: str) -> bool:
    """Whether OpenAI's newer field must carry the output cap (its reasoning models refuse `max_tokens`)."""
    return _MAX_COMPLETION_TOKENS.fullmatch(upstream_model) is not None
