"""Appends to one request's stream: decide on the stream as it stands, append under its version, look again if it moved.

The one place where a conflict, or an append whose outcome is unknown, is turned into a decision.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from domain.errors import Unavailable
from domain.events import Event, request_stream
from domain.request_decider import History
from infra.event_log import Blob, Commit, Conflict, EventLog

MAX_TRIES = 20
RETRY_S = 0.5
"""While the database is away an answer waits in hand, kept alive by the job's heartbeat, for this times the tries."""


class Recorded(Struct, frozen=True):
    """The stream after a decision, and whether it added anything."""

    history: History
    added: bool


async def record(
    log: EventLog,
    *,
    request_id: str,
    project_id: str,
    at: datetime,
    decide: Callable[[History], tuple[Event, ...]],
    history: History | None = None,
    blobs: tuple[Blob, ...] = (),
) -> Recorded:
    """Append what `decide` makes of the stream; `history` is the stream where it is known, None to read it.

    Raises:
        Unavailable: the database stayed away.

    """
    stream = request_stream(request_id)
    for tries_left in range(MAX_TRIES, 0, -1):
        try:
            if history is None:
                history = [stored.event for stored in await log.read_stream(stream)]
            events = decide(history)
            if events:
                await log.append(
                    Commit(
                        stream=stream,
                        expected_version=len(history),
                        project_id=project_id,
                        at=at,
                        events=events,
                        blobs=blobs,
                    )
                )
            return Recorded([*history, *events], bool(events))
        except Conflict:
            history = None
        except Unavailable:  # it may have landed: the stream will tell
            history = None
            if tries_left == 1:
                raise
            await asyncio.sleep(RETRY_S)
    raise Unavailable(f"the stream of {request_id} does not stand still")
