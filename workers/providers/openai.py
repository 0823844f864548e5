"""OpenAI, or whoever speaks as it does at the credential's address, as its SDK speaks to it."""

from openai import AsyncOpenAI

from domain.dialects.openai import chat_from_wire, chat_to_wire, embeddings_from_wire, embeddings_to_wire
from domain.dialects.passthrough.cost import openai_chat, openai_embeddings, openai_response
from domain.events import Operation
from workers.providers.provider import Credential
from workers.providers.sdk import Endpoint, SdkProvider, Target, target
from workers.providers.sessions import Sessions

_ENDPOINTS: dict[Operation, Endpoint] = {
    "chat": Endpoint(
        path="/chat/completions",
        write=chat_to_wire,
        read=chat_from_wire,
        meter=openai_chat,
        streamed={"stream": True, "stream_options": {"include_usage": True}},
    ),
    "embeddings": Endpoint(
        path="/embeddings", write=embeddings_to_wire, read=embeddings_from_wire, meter=openai_embeddings
    ),
    "responses": Endpoint(path="/responses", meter=openai_response),
}


def openai_provider(sessions: Sessions) -> SdkProvider:
    """Make the adapter."""
    return SdkProvider(sessions, make_target=_target, endpoints=_ENDPOINTS)


def _target(credential: Credential) -> Target:
    client = AsyncOpenAI(api_key=credential.api_key, base_url=credential.base_url)
    headers = {**client.default_headers, "Authorization": f"Bearer {credential.api_key}"}
    return target(client.base_url, headers, is_callers=credential.is_callers)
