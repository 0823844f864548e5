"""From the model name in a request to the provider that serves it and the name it knows the model by.

Does not know prices or credentials. A table of rules, tried in order; nothing else compares names.
"""

import re
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Literal

from msgspec import Meta, Struct

from domain.errors import UnknownModel
from domain.models import listed_vendor
from domain.names import END

Kind = str
"""The dialect and the adapter of a provider. A built-in provider has the name of its kind."""
NamedKind = Literal["openai", "anthropic"]
"""The kinds that a provider by configuration may have."""

OPENAI: Kind = "openai"
ANTHROPIC: Kind = "anthropic"
ECHO: Kind = "echo"

MAX_CACHED_NAMES = 4_096
"""Names of models whose built-in provider is remembered."""

ProviderName = Annotated[str, Meta(pattern=rf"^[a-z0-9][a-z0-9_-]{{0,62}}{END}")]


class NamedProvider(Struct, frozen=True, kw_only=True):
    """A provider by configuration: of a project, or of the installation for all of them."""

    name: ProviderName
    kind: NamedKind
    base_url: str
    models: tuple[str, ...] | None = None
    """The models that it serves, by its own names, which route to it without the provider's name too. None: any."""
    replaces_builtin: bool = False
    """Names in `models` that are built in route to it as well. If False, they route to the built-in provider."""


class Target(Struct, frozen=True, kw_only=True):
    """The provider of a request, and the model's name there."""

    model: str
    """The name as the caller wrote it."""
    provider: str
    kind: Kind
    upstream_model: str
    """The model name sent to the provider."""
    base_url: str | None = None
    """Of a provider by configuration; None: a built-in one."""


UPSTREAM_MODELS: dict[str, str] = {
    "claude-3.5-sonnet": "claude-3-5-sonnet-20241022",
    "claude-3-opus": "claude-3-opus-20240229",
    "claude-3-haiku": "claude-3-haiku-20240307",
}
"""The specification's short names whose providers want a dated id. An operator may override any (models retire)."""

_RULES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"echo(-.+)?"), ECHO),
    (re.compile(r"claude-.+"), ANTHROPIC),
    (
        re.compile(
            r"(gpt-|chatgpt-|o\d|text-embedding-|codex-|computer-use-|ft:|davinci-|babbage-|(omni|text)-moderation-).*"
        ),
        OPENAI,
    ),
)

KEYLESS_KINDS: frozenset[Kind] = frozenset({ECHO})
"""Kinds of providers that are called without a credential."""

BUILT_IN: dict[str, Kind] = {kind: kind for kind in (OPENAI, ANTHROPIC, ECHO)}


def resolve_target(
    model: str,
    upstream_models: Mapping[str, str],
    named: Sequence[NamedProvider] = (),
    built_in: Container[Kind] = BUILT_IN,
) -> Target:
    """Return the target of a request for `model`.

    A provider's name and a slash in front settle it; then the models that the named providers list, then the rules,
    then the table of models, which knows names that no rule fits (`chat-latest`, `text-davinci-003`).
    A name that the rules know leads to a named provider only if that one replaces the built-in one.
    `upstream_models` are the installation's names before `UPSTREAM_MODELS`, for built-in providers. Of `named`, the
    first that fits counts: a project's own stand before the installation's. `built_in` has the built-in providers.

    Raises:
        UnknownModel: no rule matches.

    """
    kind: Kind | None = None
    name = model
    prefix, slash, rest = model.partition("/")
    if slash and rest:
        outright = next((one for one in named if one.name == prefix), None)
        if outright is not None:
            if outright.models is not None and rest not in outright.models:
                raise UnknownModel(model)
            return _to(outright, model, rest)
        if prefix in built_in:
            kind, name = prefix, rest
    if kind is None:
        kind = built_in_kind(model)
        for one in named:
            if one.models is not None and model in one.models and (kind is None or one.replaces_builtin):
                return _to(one, model, model)
        kind = kind or listed_vendor(model)
    if kind is None or kind not in built_in:
        raise UnknownModel(model)
    upstream_model = upstream_models.get(name) or UPSTREAM_MODELS.get(name, name)
    return Target(model=model, provider=kind, kind=kind, upstream_model=upstream_model)


@lru_cache(maxsize=MAX_CACHED_NAMES)
def built_in_kind(model: str) -> Kind | None:
    """The built-in provider that the rules give a name without a provider's in front; None: no rule matches."""
    return next((kind for rule, kind in _RULES if rule.fullmatch(model)), None)


def _to(provider: NamedProvider, model: str, upstream_model: str) -> Target:
    return Target(
        model=model,
        provider=provider.name,
        kind=provider.kind,
        upstream_model=upstream_model,
        base_url=provider.base_url,
    )
