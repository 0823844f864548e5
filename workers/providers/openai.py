"""OpenAI, or a provider that speaks alike at the credential's address."""

import os

from workers.providers.http import COMMON_HEADERS, Endpoint, HttpProvider, Sessions, custom_headers, endpoint
from workers.providers.provider import Credential

BASE_URL = "https://api.openai.com/v1"
_OF_ENVIRONMENT = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}


def openai_provider(sessions: Sessions) -> HttpProvider:
    """Make the adapter."""
    return HttpProvider(sessions, make_endpoint=_endpoint)


def _endpoint(credential: Credential) -> Endpoint:
    own_headers = {**COMMON_HEADERS, "Authorization": f"Bearer {credential.api_key}"}
    of_environment = {header: os.environ[name] for header, name in _OF_ENVIRONMENT.items() if name in os.environ}
    return endpoint(
        credential,
        credential.base_url or os.environ.get("OPENAI_BASE_URL") or BASE_URL,
        own_headers=own_headers,
        operators_headers=of_environment | custom_headers("OPENAI_CUSTOM_HEADERS"),
    )
