"""Rebuilds a projection from the log in shadow tables, and swaps them with the live ones. Requests go on meanwhile."""

import asyncpg

from infra.database import Connection, Pool
from infra.event_log import EventLog
from infra.progress import Progress, untold
from projections.projection import Projection
from projections.quarantine import QuarantineChangedError, quarantined_positions
from projections.registry import INLINE

SHADOW = "__rebuild"
REPLACED = "__replaced"
BATCH_EVENTS = 2_000
REBUILD_LOCK = 0x6761746577617952

_GRANTS = """
    SELECT format('ALTER TABLE %s OWNER TO %s', $2::text, c.relowner::regrole)
    FROM pg_class c WHERE c.oid = $1::text::regclass
    UNION ALL
    SELECT format('GRANT %s ON %s TO %s', string_agg(g.privilege_type, ', '), $2::text,
                  CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END)
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS g WHERE c.oid = $1::text::regclass AND g.grantee <> c.relowner
    GROUP BY g.grantee
"""
"""The statements that give a table the owner and the grants of another."""


class RebuildRunningError(Exception):
    """Another rebuild is under way."""


async def rebuild(pool: Pool, log: EventLog, projection: Projection, progress: Progress = untold) -> int:
    """Fold the whole log into shadow tables and replace the live ones by them. Return the last position.

    `progress` counts positions of the log, whose end moves while requests are made.

    Raises:
        RebuildRunningError: another rebuild is under way.
        QuarantineChangedError: the quarantine changed; the live tables are unchanged.

    """
    async with pool.acquire() as session:
        if not await session.fetchval("SELECT pg_try_advisory_lock($1)", REBUILD_LOCK):
            raise RebuildRunningError("another rebuild is under way")
        try:
            return await _rebuild(pool, log, projection, progress)
        finally:
            await session.execute("SELECT pg_advisory_unlock($1)", REBUILD_LOCK)


async def _rebuild(pool: Pool, log: EventLog, projection: Projection, progress: Progress) -> int:
    for table in projection.tables:
        await pool.execute(f"DROP TABLE IF EXISTS {table}{SHADOW}")
        await pool.execute(f"CREATE TABLE {table}{SHADOW} (LIKE {table} INCLUDING ALL)")
    position = 0
    left_out = {} if projection in INLINE else await quarantined_positions(pool)  # as in the live tables
    while batch := await log.read_batch(position, limit=BATCH_EVENTS, leave_out=left_out):
        live = await _live_position(pool, projection)
        if batch.last_position > live:
            break  # the rest is folded under the lock
        async with pool.acquire() as connection, connection.transaction():
            await projection.fold(connection, batch.events, SHADOW)
        position = batch.last_position
        progress(position, live)
    async with pool.acquire() as connection, connection.transaction():
        end = await _lock(connection, projection)
        if projection not in INLINE and left_out != await quarantined_positions(connection):
            raise QuarantineChangedError("a project was quarantined or released meanwhile: run the rebuild again")
        while position < end:
            batch = await log.read_batch(position, limit=min(BATCH_EVENTS, end - position), leave_out=left_out)
            assert batch is not None, "the log has every event that the live tables have"
            await projection.fold(connection, batch.events, SHADOW)
            position = batch.last_position
        for table in projection.tables:
            await _swap(connection, table)
    return position


async def _live_position(pool: Pool | Connection, projection: Projection) -> int:
    if projection in INLINE:
        return int(await pool.fetchval("SELECT position FROM log_head"))
    position = await pool.fetchval("SELECT position FROM projection_checkpoints WHERE projection = $1", projection.name)
    return int(position or 0)


async def _lock(connection: Connection, projection: Projection) -> int:
    """Lock the live tables against further folds, and return their position."""
    if projection in INLINE:
        return int(await connection.fetchval("SELECT position FROM log_head FOR UPDATE"))
    position = await connection.fetchval(
        "SELECT position FROM projection_checkpoints WHERE projection = $1 FOR UPDATE", projection.name
    )
    return int(position or 0)


async def _swap(connection: asyncpg.Connection, table: str) -> None:
    """Put the shadow table in the live one's place, with its owner and its grants."""
    for statement in await connection.fetch(_GRANTS, table, f"{table}{SHADOW}"):
        await connection.execute(statement[0])
    await connection.execute(f"ALTER TABLE {table} RENAME TO {table}{REPLACED}")
    await connection.execute(f"ALTER TABLE {table}{SHADOW} RENAME TO {table}")
    await connection.execute(f"DROP TABLE {table}{REPLACED}")
