"""The adapter of each kind of provider. What can be asked of a kind is in `domain/dialects/registry.py`."""

from collections.abc import Callable, Mapping

from domain.routing import ANTHROPIC, ECHO, OPENAI, Kind
from workers.providers.anthropic import anthropic_provider
from workers.providers.echo import EchoProvider
from workers.providers.http import Sessions
from workers.providers.openai import openai_provider
from workers.providers.provider import Provider

Adapters = Mapping[Kind, Callable[[Sessions], Provider]]

PROVIDERS: Adapters = {
    OPENAI: openai_provider,
    ANTHROPIC: anthropic_provider,
    ECHO: lambda _: EchoProvider(),
}


def make_providers(sessions: Sessions, adapters: Adapters = PROVIDERS) -> dict[Kind, Provider]:
    """One of each, for the lifetime of a worker."""
    return {kind: make(sessions) for kind, make in adapters.items()}
