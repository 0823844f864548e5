"""Ownership of objects that are stored at a provider and that requests name: responses, conversations, files.

Projects that share a credential could name each other's objects. So a project may name only a response that it made
through the gateway, and items of those, which the log proves.
"""

from datetime import timedelta

from msgspec import Struct

from domain.dialects.request_body import RequestBody
from domain.errors import Forbidden, NotFound
from domain.events import project_stream, provider_stream
from infra.database import Pool, database_errors

OWN_CREDENTIAL_LINGERS = timedelta(minutes=1)
"""For so long after a project removed a provider or its key, a process may still call the provider with that key."""

_HAS_MADE = """
SELECT true FROM events
WHERE data ->> 'response_id' = $1 AND data ->> 'operation' = 'responses' AND type = 'RequestCompleted'
    AND project_id = $2 AND data ->> 'provider' = $3
    AND at - (data ->> 'latency_ms')::bigint * interval '1 millisecond' > coalesce($6 + (
        SELECT max(at) FROM events
        WHERE (stream = $4 AND type IN ('ProviderRemoved', 'CredentialRemoved'))
            OR (stream = $5 AND type = 'ProviderKeySet' AND data ->> 'provider' = $3)
    ), '-infinity')
LIMIT 1
"""
"""Finds a response of the project. If the project once had its own credential for a provider of this name, only
requests after its removal count: before, the project's own server may have answered, with any ids it liked.
"""
_ITEMS = """
SELECT DISTINCT item FROM events, json_array_elements_text(data -> 'item_ids') AS item
WHERE (data -> 'item_ids')::jsonb ?| $1::text[] AND (data -> 'item_ids') IS NOT NULL AND type = 'RequestCompleted'
    AND item = ANY ($1::text[]) AND project_id = $2 AND data ->> 'provider' = $3
    AND at - (data ->> 'latency_ms')::bigint * interval '1 millisecond' > coalesce($6 + (
        SELECT max(at) FROM events
        WHERE (stream = $4 AND type IN ('ProviderRemoved', 'CredentialRemoved'))
            OR (stream = $5 AND type = 'ProviderKeySet' AND data ->> 'provider' = $3)
    ), '-infinity')
"""
"""Finds those of some items that came with answers to the project, in the same way."""


_MADE_BY = """
SELECT data ->> 'provider' AS provider, data ->> 'model' AS model, data ->> 'asked_as' AS asked_as FROM events
WHERE data ->> 'response_id' = $1 AND data ->> 'operation' = 'responses' AND type = 'RequestCompleted'
    AND project_id = $2
ORDER BY position DESC LIMIT 1
"""


class MadeBy(Struct, frozen=True, kw_only=True):
    """Where a response of a project was made."""

    provider: str
    model: str
    """As the caller named it, or, of a request with several targets, as its target's is named."""
    asked_as: str | None
    """What the caller named, if that is another: a route, or the model before its fallbacks."""


class ProviderObjectOwnership:
    """Checks that a project owns the provider objects that its requests name."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def made_by(self, project_id: str, response_id: str) -> MadeBy:
        """Return where a project made a response.

        Raises:
            NotFound: it has made none of this id.
            Unavailable: the database cannot be reached.

        """
        async with database_errors():
            row = await self._pool.fetchrow(_MADE_BY, response_id, project_id)
        if row is None:
            raise NotFound(f"this project has no response {response_id!r} at a provider that keeps responses")
        return MadeBy(provider=row["provider"], model=row["model"], asked_as=row["asked_as"])

    async def check(self, project_id: str, provider: str, request: RequestBody) -> bool:
        """Refuse a request that names an object if that is another project's, or may be.

        Returns True if the request is allowed only because the project uses its own credential.

        Raises:
            NotFound: the project has made no such response, or has been given no such item.
            Forbidden: the request names an object that was not made through the gateway, under a shared credential.
            Unavailable: the database cannot be reached.

        """
        async with database_errors():
            has_own_credential = await self._pool.fetchval(
                "SELECT true FROM provider_keys WHERE project_id = $1 AND provider = $2 LIMIT 1",
                project_id,
                provider,
            )
            if has_own_credential:
                return True
            if request.provider_object_ref is not None:
                raise Forbidden(
                    f"`{request.provider_object_ref}` names an object at {provider}, whose credential several projects "
                    "share: set a provider key of the project's own"
                )
            owner = (
                project_id,
                provider,
                provider_stream(project_id, provider),
                project_stream(project_id),
                OWN_CREDENTIAL_LINGERS,
            )
            if request.response_id is not None and not await self._pool.fetchval(
                _HAS_MADE, request.response_id, *owner
            ):
                raise NotFound(f"`previous_response_id` {request.response_id!r} is not a response of this project")
            if request.item_ids:
                found = {row["item"] for row in await self._pool.fetch(_ITEMS, list(request.item_ids), *owner)}
                unknown = next((item_id for item_id in request.item_ids if item_id not in found), None)
                if unknown is not None:
                    raise NotFound(f"item {unknown!r} did not come with an answer to this project")
        return False
