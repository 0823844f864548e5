"""Quarantine: if an event of a project cannot be folded, the projector leaves the project out and folds the others.

Such a project loses nothing: its events are in the log, its holds stay, and its reports are refused rather than wrong.
Once the cause is fixed, `release` folds the events that were left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import asyncpg
import msgspec
import structlog
from msgspec import Struct

from domain.events import StoredEvent
from infra.database import Connection, Pool, database_errors

MAX_ERROR_CHARS = 500
_DATA_SQLSTATES = ("21", "22", "23", "54", "P0")
"""Classes of SQLSTATE that are caused by a statement's data, not by the server or the schema: cardinality violations,
data exceptions, violated constraints, exceeded limits, errors raised by PL/pgSQL.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""
_DATA_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    msgspec.MsgspecError,
)

log = structlog.get_logger(__name__)
_decode_positions = msgspec.json.Decoder(dict[str, int]).decode


def encode_positions(positions: Mapping[str, int]) -> str:
    """Write positions as JSON."""
    return msgspec.json.encode(positions).decode()


class QuarantineChangedError(Exception):
    """A project was quarantined or released after the events that are to be folded were read."""


class QuarantinedProject(Struct, frozen=True, kw_only=True):
    """A project whose events are left out from `position` on."""

    project_id: str
    position: int
    error: str
    since: datetime


def is_caused_by_data(error: Exception) -> bool:
    """Return whether the events caused the error, so that folding them again would fail again."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_DATA_SQLSTATES)
    return isinstance(error, _DATA_ERRORS)


def is_quarantined(quarantined: Mapping[str, int], project_id: str, position: int) -> bool:
    """Return whether the event of a project at a position is left out."""
    start = quarantined.get(project_id)
    return start is not None and position >= start


def by_project(events: Iterable[StoredEvent]) -> dict[str, list[StoredEvent]]:
    """Group events by project."""
    projects: dict[str, list[StoredEvent]] = {}
    for event in events:
        projects.setdefault(event.project_id, []).append(event)
    return projects


async def quarantined_positions(connection: Connection | Pool) -> dict[str, int]:
    """Return the quarantined projects, each with the position from which on it is left out."""
    rows = await connection.fetch("SELECT project_id, position FROM quarantined_projects")
    return {row["project_id"]: row["position"] for row in rows}


async def folded_positions(connection: Connection, project_id: str) -> dict[str, int] | None:
    """Return, by projection, the position up to which a project's events are folded; None if it is not quarantined."""
    folded: str | None = await connection.fetchval(
        "SELECT folded::text FROM quarantined_projects WHERE project_id = $1 FOR UPDATE", project_id
    )
    return _decode_positions(folded) if folded is not None else None


async def quarantined_projects(pool: Pool) -> list[QuarantinedProject]:
    """Return every quarantined project, oldest first."""
    async with database_errors():
        rows: Sequence[asyncpg.Record] = await pool.fetch(
            "SELECT project_id, position, error, since FROM quarantined_projects ORDER BY since, project_id"
        )
    return [QuarantinedProject(**row) for row in rows]


async def quarantine(
    connection: Connection | Pool, project_id: str, position: int, error: Exception, checkpoints: Mapping[str, int]
) -> None:
    """Leave a project out from `position` on.

    `checkpoints` has the position of each projection. A projection that is ahead of `position` has folded the project's
    events up to its checkpoint.
    """
    folded = {name: max(checkpoint, position - 1) for name, checkpoint in checkpoints.items()}
    reason = f"{type(error).__name__}: {error}".replace("\x00", "")[:MAX_ERROR_CHARS]
    await connection.execute(
        "INSERT INTO quarantined_projects (project_id, position, folded, error) "
        "VALUES ($1, $2, $3::text::json, $4) ON CONFLICT DO NOTHING",
        project_id,
        position,
        encode_positions(folded),
        reason,
    )
    log.error("project_quarantined", project_id=project_id, position=position, error=reason)
