"""A request with its events; its answer, if it is stored: in the cache, or for a job that has yet to take it over."""

from collections.abc import Sequence

from api.requests import id_in_path
from api.services import Services
from domain.errors import NotFound
from domain.events import (
    CachedCopy,
    KeptCopy,
    RequestCompleted,
    RequestServedFromCache,
    StoredEvent,
    request_stream,
)
from projections.freshness import wait_until_folded
from projections.reports.requests import RequestView, get_request
from projections.scope import Scope


async def request_with_events(
    services: Services, scope: Scope, request_id: str
) -> tuple[RequestView, Sequence[StoredEvent]]:
    """Return a request of a scope, with its events.

    Raises:
        NotFound: there is none in the scope.
        Unavailable: the database is away, or the projections are too late.

    """
    await wait_until_folded(services.pool, "requests", project_id=scope.project_id)
    found = await get_request(services.pool, scope, id_in_path(request_id))
    if found is None:
        raise NotFound("there is no such request here")
    return found, await services.log.read_stream(request_stream(request_id))


async def stored_answer(services: Services, project_id: str, events: Sequence[StoredEvent]) -> bytes | None:
    """Return the body of a request's answer by the request's events; None if it is not stored, or no more.

    A request that was served from the cache has the answer of the one that it is from, which is its project's as well.

    Raises:
        Unavailable: the database is away.

    """
    copy = _copy_of(events)
    if copy is None and (origin := _origin_of(events)) is not None:
        copy = _copy_of(await services.log.read_stream(request_stream(origin)))
    return await services.jobs.blobs.read(project_id, copy.blob_id) if copy is not None else None


def _copy_of(events: Sequence[StoredEvent]) -> CachedCopy | KeptCopy | None:
    """Where the answer of a request is stored by its own events."""
    ended = next((one.event for one in events if isinstance(one.event, RequestCompleted)), None)
    return (ended.cached_copy or ended.kept_copy) if ended is not None else None


def _origin_of(events: Sequence[StoredEvent]) -> str | None:
    """The request whose answer another one got from the cache."""
    return next((one.event.origin_request_id for one in events if isinstance(one.event, RequestServedFromCache)), None)
