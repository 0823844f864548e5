"""Appends to one request's stream: read it, decide, append under its version, and start again if it has changed.

Only this module decides again after a conflict, or after an append whose outcome is unknown.
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
"""The pause between two tries. A worker keeps its result for `MAX_TRIES` pauses while the database cannot be reached;
the job's heartbeat keeps the job alive."""


class Recorded(Struct, frozen=True):
    """The stream after a decision. `added` is true if the decision added events."""

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
    """Append the events that `decide` returns for the stream. If `history` is None, the stream is read.

    Raises:
        Unavailable: the database could not be reached in any of the tries.

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
        except Unavailable:  # the append may have been committed: read the stream again
            history = None
            if tries_left == 1:
                raise
            await asyncio.sleep(RETRY_S)
    raise Unavailable(f"the stream of {request_id} changed {MAX_TRIES} times during this append")
