"""The signed heads in the database: reads and adds them. Who signs them is `projections/head_signer.py`."""

from collections.abc import AsyncIterator

import asyncpg

from domain.log_head import LogPosition, SignedHead
from infra.database import Connection, Pool, database_errors

BATCH_HEADS = 5_000
_COLUMNS = "sequence, position, digest, at, previous, resumes_after, reason, key_id, signature"


async def newest_head(pool: Pool | Connection) -> SignedHead | None:
    """Return the head with the highest sequence; None if the database has none."""
    async with database_errors():
        row = await pool.fetchrow(f"SELECT {_COLUMNS} FROM log_heads ORDER BY sequence DESC LIMIT 1")  # noqa: S608 - a constant
    return _head(row) if row is not None else None


async def heads_from(pool: Pool, sequence: int) -> AsyncIterator[SignedHead]:
    """Yield the heads of this sequence and of higher ones, in order."""
    while True:
        async with database_errors():
            rows = await pool.fetch(
                f"SELECT {_COLUMNS} FROM log_heads WHERE sequence >= $1 ORDER BY sequence LIMIT $2",  # noqa: S608 - a constant
                sequence,
                BATCH_HEADS,
            )
        for row in rows:
            yield _head(row)
        if len(rows) < BATCH_HEADS:
            return
        sequence = rows[-1]["sequence"] + 1


async def add_head(pool: Pool, head: SignedHead) -> bool:
    """Store a signed head. Return False if another signer has stored one of the same sequence."""
    async with database_errors():
        return bool(
            await pool.fetchval(
                "SELECT record_head($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                head.sequence,
                head.position,
                head.digest,
                head.at,
                head.previous,
                head.resumes_after,
                head.reason,
                head.key_id,
                head.signature,
            )
        )


async def log_position(pool: Pool) -> LogPosition | None:
    """Return the head of the log as the database has it; None if its row is missing."""
    async with database_errors():
        row = await pool.fetchrow("SELECT position, digest FROM log_head")
    return LogPosition(row["position"], row["digest"]) if row is not None else None


def _head(row: asyncpg.Record) -> SignedHead:
    return SignedHead(**dict(row.items()))
