"""Anthropic, or a provider that speaks alike at the credential's address."""

import os

from workers.providers.http import COMMON_HEADERS, Endpoint, HttpProvider, Sessions, custom_headers, endpoint
from workers.providers.provider import Credential

BASE_URL = "https://api.anthropic.com"
VERSION = "2026-10-21"
"""Of the API, for requests that do not name one."""


def anthropic_provider(sessions: Sessions) -> HttpProvider:
    """Make the adapter."""
    return HttpProvider(sessions, make_endpoint=_endpoint)


def _endpoint(credential: Credential) -> Endpoint:
    return endpoint(
        credential,
        credential.base_url or os.environ.get("ANTHROPIC_BASE_URL") or BASE_URL,
        own_headers={
            **COMMON_HEADERS,
            "Authorization": f"Bearer {credential.api_key}",
            "anthropic-version": VERSION,
        },
        operators_headers=custom_headers("ANTHROPIC_CUSTOM_HEADERS"),
    )
