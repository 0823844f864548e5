"""Anthropic as its SDK speaks to it."""

from anthropic import AsyncAnthropic

from domain.dialects.anthropic import chat_from_wire, chat_to_wire
from domain.dialects.passthrough.cost import anthropic_count, anthropic_message
from domain.events import Operation
from workers.providers.provider import Credential
from workers.providers.sdk import Endpoint, SdkProvider, Target, target
from workers.providers.sessions import Sessions

_ENDPOINTS: dict[Operation, Endpoint] = {
    "chat": Endpoint(
        path="/v1/messages",
        write=chat_to_wire,
        read=chat_from_wire,
        meter=anthropic_message,
        streamed={"stream": True},
    ),
    "count_tokens": Endpoint(path="/v1/messages/count_tokens", meter=anthropic_count),
}


def anthropic_provider(sessions: Sessions) -> SdkProvider:
    """Make the adapter."""
    return SdkProvider(sessions, make_target=_target, endpoints=_ENDPOINTS)


def _target(credential: Credential) -> Target:
    client = AsyncAnthropic(api_key=credential.api_key, base_url=credential.base_url)
    return target(client.base_url, client.default_headers, is_callers=credential.is_callers)
