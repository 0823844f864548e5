"""What the owner of the database can do to the log: everything that needs no key."""

import hashlib

from domain.log_head import GENESIS
from infra.database import Connection, Pool
from infra.event_log import event_digest

TRIGGERS = {"events": "events_are_immutable", "log_heads": "heads_are_immutable"}


class DatabaseOwner:
    """Changes the log's tables, and leaves no trace that the tables themselves could show."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def run(self, *statements: str) -> None:
        """Run statements with the triggers of the log switched off."""
        async with self._pool.acquire() as connection, connection.transaction():
            await _switch(connection, "DISABLE")
            for statement in statements:
                await connection.execute(statement)
            await _switch(connection, "ENABLE")

    async def cut_after(self, position: int) -> None:
        """Remove the events after the end of a batch, and the signed heads that are beyond it. Move the head back."""
        await self.run(
            f"DELETE FROM events WHERE position > {position}",
            f"DELETE FROM log_heads WHERE position > {position}",
            f"UPDATE log_head SET position = {position}, "
            f"digest = (SELECT chain FROM events WHERE position = {position})",
        )

    async def rewrite(self, position: int, data: str) -> None:
        """Change the data of an event, and compute its digest and the whole chain anew."""
        await self.run(f"UPDATE events SET data = '{data}' WHERE position = {position}")
        rows = await self._pool.fetch("SELECT *, data::text AS text FROM events ORDER BY position")
        chain, batch, statements = GENESIS, hashlib.sha256(GENESIS), []
        for row in rows:
            envelope = (row["stream"], row["version"], row["type"], row["project_id"], row["at"])
            digest = event_digest(*envelope, row["text"].encode())
            batch.update(digest)
            column = ""
            if row["chain"] is not None:
                chain = batch.digest()
                batch, column = hashlib.sha256(chain), f", chain = '\\x{chain.hex()}'"
            statements.append(
                f"UPDATE events SET digest = '\\x{digest.hex()}'{column} WHERE position = {row['position']}"
            )
        await self.run(*statements, f"UPDATE log_head SET digest = '\\x{chain.hex()}'")

    async def add_beyond_head(self, position: int, kind: str, data: str, *, project_id: str, stream: str) -> None:
        """Add an event that was never appended, behind the head."""
        await self._pool.execute(
            "INSERT INTO events (position, stream, version, type, project_id, at, data, digest) "
            "VALUES ($1, $2, 1, $3, $4, now(), $5::text::json, sha256(''))",
            position,
            stream,
            kind,
            project_id,
            data,
        )


async def _switch(connection: Connection, to: str) -> None:
    for table, trigger in TRIGGERS.items():
        await connection.execute(f"ALTER TABLE {table} {to} TRIGGER {trigger}")
