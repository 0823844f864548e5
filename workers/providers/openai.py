"""OpenAI, or whoever speaks as it does at the credential's address, over its SDK."""

import openai
from openai import AsyncOpenAI, DefaultAioHttpClient

from domain.dialects.openai import chat_from_wire, chat_to_wire, embeddings_from_wire, embeddings_to_wire
from domain.events import Operation
from workers.providers.provider import Credential
from workers.providers.sdk import LIMITS, Endpoint, SdkErrors, SdkProvider

_ERRORS = SdkErrors(status=openai.APIStatusError, timeout=openai.APITimeoutError, connection=openai.APIConnectionError)
_ENDPOINTS: dict[Operation, Endpoint] = {
    "chat": Endpoint(path="/chat/completions", write=chat_to_wire, read=chat_from_wire),
    "embeddings": Endpoint(path="/embeddings", write=embeddings_to_wire, read=embeddings_from_wire),
}


def openai_provider(name: str) -> SdkProvider:
    """Make the adapter."""
    return SdkProvider(name, make_client=_client, errors=_ERRORS, endpoints=_ENDPOINTS)


def _client(credential: Credential) -> AsyncOpenAI:
    return AsyncOpenAI(
        api_key=credential.api_key,
        base_url=credential.base_url,
        max_retries=0,
        http_client=DefaultAioHttpClient(limits=LIMITS, follow_redirects=False),
    )
