"""Anthropic, called with the headers of its SDK."""

from anthropic import AsyncAnthropic

from workers.providers.provider import Credential
from workers.providers.sdk import SdkProvider, Sessions, Target, target


def anthropic_provider(sessions: Sessions) -> SdkProvider:
    """Make the adapter."""
    return SdkProvider(sessions, make_target=_target)


def _target(credential: Credential) -> Target:
    client = AsyncAnthropic(api_key=credential.api_key, base_url=credential.base_url)
    return target(client.base_url, client.default_headers, is_callers=credential.is_callers)
