"""Rebuilds a projection from the log in shadow tables, and swaps them with the live ones. Requests go on meanwhile.

A shadow table gets its indexes when it is full, but for the one that its rows are merged by. While a batch is written,
the next one is read.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import asyncpg

from infra.database import Connection, Pool
from infra.event_log import EventLog, LogBatch
from infra.progress import Progress, untold
from projections.projection import Projection
from projections.quarantine import QuarantineChangedError, quarantined_positions
from projections.registry import INLINE

SHADOW = "__rebuild"
REPLACED = "__replaced"
BATCH_EVENTS = 10_000
INDEX_TIMEOUT_S = 3_600.0
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


_OPTIONS = "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = $1::text::regclass"
"""How full a table's pages are, and when it is vacuumed: LIKE leaves that out."""
_INDEXES = """
    SELECT pg_get_indexdef(i.indexrelid) AS definition, i.indexrelid::regclass::text AS name
    FROM pg_index i WHERE i.indrelid = $1::text::regclass AND NOT i.indisunique
"""
"""The indexes of a table by which no rows are merged."""


class RebuildRunningError(Exception):
    """Another rebuild is under way."""


class TableChangedError(Exception):
    """A migration has changed a table while it was rebuilt."""


async def rebuild(pool: Pool, log: EventLog, projection: Projection, progress: Progress = untold) -> int:
    """Fold the whole log into shadow tables and replace the live ones by them. Return the last position.

    `progress` counts positions of the log, whose end moves while requests are made.

    Raises:
        RebuildRunningError: another rebuild is under way.
        QuarantineChangedError: the quarantine changed; the live tables are unchanged.
        TableChangedError: a migration changed a table; the live tables are unchanged.

    """
    async with pool.acquire() as session:
        if not await session.fetchval("SELECT pg_try_advisory_lock($1)", REBUILD_LOCK):
            raise RebuildRunningError("another rebuild is under way")
        try:
            return await _rebuild(pool, log, projection, progress)
        finally:
            await session.execute("SELECT pg_advisory_unlock($1)", REBUILD_LOCK)


async def _rebuild(pool: Pool, log: EventLog, projection: Projection, progress: Progress) -> int:
    indexes = [index for table in projection.tables for index in await _make_shadow(pool, table)]
    left_out = {} if projection in INLINE else await quarantined_positions(pool)  # as in the live tables
    position = await _fold(pool, log, projection, 0, left_out, progress)
    for index in indexes:
        await pool.execute(index, timeout=INDEX_TIMEOUT_S)
    position = await _fold(pool, log, projection, position, left_out, progress)  # what came meanwhile
    async with pool.acquire() as connection, connection.transaction():
        end = await _lock(connection, projection)
        if projection not in INLINE and left_out != await quarantined_positions(connection):
            raise QuarantineChangedError("a project was quarantined or released meanwhile: run the rebuild again")
        while position < end:
            limit = min(BATCH_EVENTS, end - position)
            batch = await log.read_kinds(position, limit=limit, leave_out=left_out, kinds=projection.reads)
            assert batch is not None, "the log has every event that the live tables have"
            await projection.fold(connection, batch.events, SHADOW)
            position = batch.last_position
        for table in projection.tables:
            if await _index_count(connection, table) != await _index_count(connection, f"{table}{SHADOW}"):
                raise TableChangedError(f"the indexes of {table} were changed meanwhile: run the rebuild again")
            await _swap(connection, table)
    return position


async def _index_count(connection: asyncpg.Connection, table: str) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass", table))


async def _make_shadow(pool: Pool, table: str) -> list[str]:
    """Make an empty shadow table. Return the statements that make the indexes that it lacks."""
    shadow = f"{table}{SHADOW}"
    await pool.execute(f"DROP TABLE IF EXISTS {shadow}")
    await pool.execute(f"CREATE TABLE {shadow} (LIKE {table} INCLUDING ALL)")
    if options := await pool.fetchval(_OPTIONS, table):
        await pool.execute(f"ALTER TABLE {shadow} SET ({options})")
    indexes = await pool.fetch(_INDEXES, shadow)
    for index in indexes:
        await pool.execute(f"DROP INDEX {index['name']}")
    return [index["definition"] for index in indexes]


async def _fold(
    pool: Pool, log: EventLog, projection: Projection, position: int, left_out: Mapping[str, int], progress: Progress
) -> int:
    """Fold what follows a position into the shadow tables. Return how far; the rest is folded under the lock."""
    async with aclosing(_batches(log, projection, position, left_out)) as batches:
        async for batch in batches:
            live = await _live_position(pool, projection)
            if batch.last_position > live:
                break
            if batch.events:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("SET LOCAL synchronous_commit = off")  # the swap's commit makes it durable
                    await projection.fold(connection, batch.events, SHADOW)
            position = batch.last_position
            progress(position, live)
    return position


async def _batches(
    log: EventLog, projection: Projection, after: int, left_out: Mapping[str, int]
) -> AsyncGenerator[LogBatch, None]:
    """Yield what the projection reads of the log, in order. The next batch is asked for before this one is folded."""

    def ask(position: int) -> asyncio.Future[LogBatch | None]:
        reading = log.read_kinds(position, limit=BATCH_EVENTS, leave_out=left_out, kinds=projection.reads)
        return asyncio.ensure_future(reading)

    asked = ask(after)
    try:
        while (batch := await asked) is not None:
            asked = ask(batch.last_position)
            await asyncio.sleep(0)  # it is sent before this one is folded
            yield batch
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


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
