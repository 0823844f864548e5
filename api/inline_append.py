"""Appends events, folds them and stores secrets in one transaction, so that all of it holds once the call returns."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from domain.errors import Unavailable
from domain.events import Event, StoredEvent
from infra.database import Connection
from infra.event_log import Commit, Conflict, EventLog
from projections.projection import Projection


async def append_and_project(
    log: EventLog,
    projection: Projection,
    commits: Sequence[Commit],
    store: Callable[[Connection], Awaitable[None]] | None = None,
) -> None:
    """Append commits, fold them into `projection` (one of `INLINE`), and call `store` for what is not in the events.

    Raises:
        Unavailable: another call appended to one of the streams at the same moment, or as `EventLog.append_with`.
        OutcomeUnknown: as `EventLog.append_with`.

    """
    folded = [
        StoredEvent(
            position=1,  # an inline projection reads no position
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
        raise Unavailable(
            "another call changed the same object at the same moment: send the request again", retry_after_s=1
        ) from None


class OwnedStreams:
    """The streams of what a project or the installation sets up: its providers with their credentials, its routes.

    Each change is one append with its projection and its secrets; then every process is told that the owner's are
    different.
    """

    def __init__(
        self, log: EventLog, projection: Projection, announce: Callable[[str], Awaitable[None]] | None = None
    ) -> None:
        self._log = log
        self._projection = projection
        self._announce = announce

    async def version(self, stream: str) -> int:
        """The stream's version, to be read before what is decided on."""
        return len(await self._log.read_stream(stream))

    async def append(
        self,
        owner: str,
        stream: str,
        version: int,
        event: Event,
        store: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        """Append an event to a stream of an owner's. Raises as `append_and_project`."""
        commit = Commit(
            stream=stream, expected_version=version, project_id=owner, at=datetime.now(UTC), events=(event,)
        )
        await append_and_project(self._log, self._projection, [commit], store)
        if self._announce is not None:
            await self._announce(owner)
