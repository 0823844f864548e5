"""Anthropic, called with the headers of its SDK."""

from anthropic import AsyncAnthropic
from anthropic._constants import ANTHROPIC_API_VERSION

from workers.providers.provider import Credential
from workers.providers.sdk import JSON_HEADERS, Endpoint, SdkProvider, Sessions, endpoint


def anthropic_provider(sessions: Sessions) -> SdkProvider:
    """Make the adapter."""
    return SdkProvider(sessions, make_endpoint=_endpoint)


def _endpoint(credential: Credential) -> Endpoint:
    client = AsyncAnthropic(api_key=credential.api_key, base_url=credential.base_url)
    own_headers = {**JSON_HEADERS, "User-Agent": client.user_agent, "anthropic-version": ANTHROPIC_API_VERSION}
    return endpoint(credential, client.base_url, client.default_headers, {**own_headers, **client.auth_headers})
