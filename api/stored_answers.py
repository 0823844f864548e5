"""The answer of a request, if it is stored: in the cache, or for a job that has yet to take it over."""

from collections.abc import Sequence

from api.services import Services
from domain.events import RequestCompleted, StoredEvent


async def stored_answer(services: Services, project_id: str, events: Sequence[StoredEvent]) -> bytes | None:
    """Return the body of a request's answer by the request's events; None if it is not stored, or no more.

    Raises:
        Unavailable: the database is away.

    """
    ended = next((one.event for one in events if isinstance(one.event, RequestCompleted)), None)
    copy = (ended.cached_copy or ended.kept_copy) if ended is not None else None
    return await services.jobs.blobs.read(project_id, copy.blob_id) if copy is not None else None
