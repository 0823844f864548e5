"""OpenAI, or a provider that speaks alike at the credential's address, called with the headers of OpenAI's SDK."""

from openai import AsyncOpenAI

from workers.providers.provider import Credential
from workers.providers.sdk import JSON_HEADERS, Endpoint, SdkProvider, Sessions, endpoint


def openai_provider(sessions: Sessions) -> SdkProvider:
    """Make the adapter."""
    return SdkProvider(sessions, make_endpoint=_endpoint)


def _endpoint(credential: Credential) -> Endpoint:
    client = AsyncOpenAI(api_key=credential.api_key, base_url=credential.base_url)
    authorization = {"Authorization": f"Bearer {credential.api_key}"}
    return endpoint(
        credential,
        client.base_url,
        {**client.default_headers, **authorization},
        {**JSON_HEADERS, "User-Agent": client.user_agent, **authorization},
    )
