"""Verifications of the log and of the read models: an operator asks for them and looks how far they are.

API processes ask and look (`api/native/audit.py`). A projector makes them, one at a time over all projectors, each in a
process of its own (`projections/audit_runner.py`). Not of the log: a verification changes nothing that is true.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from infra.database import Pool, database_errors

AuditKind = Literal["verify", "balance"]
Verdict = Literal["intact", "broken", "unsigned", "agrees", "differs", "failed"]
"""`intact`, `broken` (the log was changed) and `unsigned` (it agrees with itself, and nobody has signed it) are of
`verify`; `agrees` and `differs` of `balance`; `failed` of both: it came to no end."""
MAX_RUNS = 100
"""Ended runs that are kept."""
_COLUMNS = "run_id, kind, asked_at, started_at, ended_at, done, total, verdict, lines"


class AuditRun(Struct, frozen=True, kw_only=True):
    """A verification that was asked for."""

    run_id: str
    kind: AuditKind
    asked_at: datetime
    started_at: datetime | None
    """None: it waits for its turn."""
    ended_at: datetime | None
    done: int
    """Events, of `total`."""
    total: int
    """0: it is not known yet."""
    verdict: Verdict | None
    """None: it has not ended."""
    lines: list[str]
    """What it found, in words."""


async def ask_run(pool: Pool, kind: AuditKind, run_id: str) -> AuditRun:
    """Ask for a run. Return the open one of this kind, which may be one that was asked for before.

    Raises:
        Unavailable: the database is away.

    """
    async with database_errors():
        open_id = await pool.fetchval("SELECT ask_audit_run($1, $2, $3)", run_id, kind, MAX_RUNS)
    run = await run_of(pool, open_id)
    assert run is not None, "it has not ended, or was a moment ago"
    return run


async def run_of(pool: Pool, run_id: str) -> AuditRun | None:
    """Return a run; None if there is none. Raises as `ask_run`."""
    async with database_errors():
        row = await pool.fetchrow(f"SELECT {_COLUMNS} FROM audit_runs WHERE run_id = $1", run_id)  # noqa: S608 - constants
    return _run(row) if row is not None else None


async def newest_runs(pool: Pool, limit: int) -> list[AuditRun]:
    """Return the newest runs, the newest first. Raises as `ask_run`."""
    async with database_errors():
        rows = await pool.fetch(f"SELECT {_COLUMNS} FROM audit_runs ORDER BY asked_at DESC LIMIT $1", limit)  # noqa: S608 - constants
    return [_run(row) for row in rows]


async def take_run(pool: Pool) -> tuple[str, AuditKind] | None:
    """Take the run that has waited longest; None if there is none, or one is being made. Raises as `ask_run`."""
    async with database_errors():
        row = await pool.fetchrow("SELECT run_id, kind FROM take_audit_run()")
    return (row["run_id"], row["kind"]) if row is not None else None


async def report_run(pool: Pool, run_id: str, done: int, total: int) -> bool:
    """Say how far a run is. Return False if it has ended. Raises as `ask_run`."""
    async with database_errors():
        return bool(await pool.fetchval("SELECT report_audit_run($1, $2, $3)", run_id, done, total))


async def end_run(pool: Pool, run_id: str, verdict: Verdict, lines: list[str]) -> None:
    """End a run, unless it has ended. Raises as `ask_run`."""
    async with database_errors():
        await pool.execute("SELECT end_audit_run($1, $2, $3)", run_id, verdict, lines)


def _run(row: Mapping[str, Any]) -> AuditRun:
    return AuditRun(**dict(row.items()))
