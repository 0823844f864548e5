"""What requests may name that was made at a provider: answers, conversations, files.

Under a credential that projects share, only what a project made through the gateway is its own; the log says what is.
"""

from datetime import timedelta

from domain.dialects.request_body import RequestBody
from domain.errors import Forbidden, NotFound
from domain.events import project_stream, provider_stream
from infra.database import Pool, database_errors

OWN_CREDENTIAL_LINGERS = timedelta(minutes=1)
"""So long after a project has given up a provider, or its key for one, a process may still ask by it."""

_HAS_MADE = """
SELECT true FROM events
WHERE data ->> 'response_id' = $1 AND data ->> 'operation' = 'responses' AND type = 'RequestCompleted'
    AND project_id = $2 AND data ->> 'provider' = $3
    AND at - (data ->> 'latency_ms')::bigint * interval '1 millisecond' > coalesce($6 + (
        SELECT max(at) FROM events
        WHERE (stream = $4 AND type = 'ProviderRemoved')
            OR (stream = $5 AND type = 'ProviderKeySet' AND data ->> 'provider' = $3)
    ), '-infinity')
LIMIT 1
"""
"""Only what was asked for since the project's own credential for a provider of this name, if there was one, is gone:
before, whoever answered may have been another, with whatever ids it liked.
"""


class ProviderObjectOwnership:
    """Knows whose they are."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def check(self, project_id: str, provider: str, request: RequestBody) -> bool:
        """Refuse what belongs to somebody else, or may. True: it is the project's only under a credential of its own.

        Raises:
            NotFound: the project has made no such answer.
            Forbidden: it names what was not made through the gateway, under a credential that is not its own.
            Unavailable: the database is away.

        """
        if request.response_id is None and request.provider_object_ref is None:
            return False
        async with database_errors():
            has_own_credential = await self._pool.fetchval(
                "SELECT true FROM provider_keys WHERE project_id = $1 AND provider = $2", project_id, provider
            )
            if has_own_credential:
                return True
            if request.provider_object_ref is not None:
                raise Forbidden(
                    f"`{request.provider_object_ref}` names an object at {provider}, whose credential several projects "
                    "share: set a provider key of the project's own"
                )
            has_made = await self._pool.fetchval(
                _HAS_MADE,
                request.response_id,
                project_id,
                provider,
                provider_stream(project_id, provider),
                project_stream(project_id),
                OWN_CREDENTIAL_LINGERS,
            )
        if not has_made:
            raise NotFound(f"`previous_response_id` {request.response_id!r} is no answer of this project's")
        return False
