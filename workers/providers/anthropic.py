"""Anthropic over its SDK."""

import anthropic
from anthropic import AsyncAnthropic, DefaultAioHttpClient

from domain.dialects.anthropic import chat_from_wire, chat_to_wire
from domain.events import Operation
from workers.providers.provider import Credential
from workers.providers.sdk import LIMITS, Endpoint, SdkErrors, SdkProvider

_ERRORS = SdkErrors(
    status=anthropic.APIStatusError, timeout=anthropic.APITimeoutError, connection=anthropic.APIConnectionError
)
_ENDPOINTS: dict[Operation, Endpoint] = {
    "chat": Endpoint(path="/v1/messages", write=chat_to_wire, read=chat_from_wire),
}


def anthropic_provider(name: str) -> SdkProvider:
    """Make the adapter."""
    return SdkProvider(name, make_client=_client, errors=_ERRORS, endpoints=_ENDPOINTS)


def _client(credential: Credential) -> AsyncAnthropic:
    return AsyncAnthropic(
        api_key=credential.api_key,
        base_url=credential.base_url,
        max_retries=0,
        http_client=DefaultAioHttpClient(limits=LIMITS, follow_redirects=False),
    )
