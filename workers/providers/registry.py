"""Every provider: a row each. What may be asked of one is `domain/dialects/table.py`."""

from collections.abc import Callable

from domain.routing import ANTHROPIC, ECHO, OPENAI
from workers.providers.anthropic import anthropic_provider
from workers.providers.echo import EchoProvider
from workers.providers.openai import openai_provider
from workers.providers.provider import Provider

PROVIDERS: dict[str, Callable[[str], Provider]] = {
    OPENAI: openai_provider,
    ANTHROPIC: anthropic_provider,
    ECHO: EchoProvider,
}


def make_providers() -> dict[str, Provider]:
    """One of each, for the lifetime of a worker."""
    return {name: make(name) for name, make in PROVIDERS.items()}
