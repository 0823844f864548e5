"""The adapter of each kind of provider. What can be asked of a kind is in `domain/dialects/registry.py`."""

from collections.abc import Callable

from domain.routing import ANTHROPIC, ECHO, OPENAI, Kind
from workers.providers.anthropic import anthropic_provider
from workers.providers.echo import EchoProvider
from workers.providers.openai import openai_provider
from workers.providers.provider import Provider
from workers.providers.sdk import Sessions

PROVIDERS: dict[Kind, Callable[[Sessions], Provider]] = {
    OPENAI: openai_provider,
    ANTHROPIC: anthropic_provider,
    ECHO: lambda _: EchoProvider(),
}


def make_providers(sessions: Sessions) -> dict[Kind, Provider]:
    """One of each, for the lifetime of a worker."""
    return {kind: make(sessions) for kind, make in PROVIDERS.items()}
