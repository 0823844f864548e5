"""Appends of what must hold the moment the call returns: events, projection and secrets in one transaction."""

from collections.abc import Awaitable, Callable, Sequence

from domain.errors import Unavailable
from domain.events import StoredEvent
from infra.database import Connection
from infra.event_log import Commit, Conflict, EventLog
from projections.projection import Projection


async def append_and_project(
    log: EventLog,
    projection: Projection,
    commits: Sequence[Commit],
    store: Callable[[Connection], Awaitable[None]] | None = None,
) -> None:
    """Append commits, fold them into `projection` (one of `INLINE`), and `store` what stands in no event.

    Raises:
        Unavailable: somebody appended to one of the streams at the same moment, or as `EventLog.append_with`.
        OutcomeUnknown: as there.

    """
    folded = [
        StoredEvent(
            position=1,  # what is folded in the append looks at no position
            stream=commit.stream,
            version=version,
            type=type(event).__name__,
            project_id=commit.project_id,
            at=commit.at,
            event=event,
        )
        for commit in commits
        for version, event in enumerate(commit.events, start=commit.expected_version + 1)
    ]

    async def apply(connection: Connection) -> None:
        await projection.fold(connection, folded)
        if store is not None:
            await store(connection)

    try:
        await log.append_with(commits, apply)
    except Conflict:
        raise Unavailable("somebody has changed the same at the same moment: ask again", retry_after_s=1) from None
