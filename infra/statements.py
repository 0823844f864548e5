"""Runs reads that are composed with SQLAlchemy Core on asyncpg's own pool: no engine and no session of its own."""

from typing import Any

import asyncpg
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from infra.database import Pool, database_errors

_DIALECT = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's
_OPTIONS = {"render_postcompile": True}
"""Each value of a list becomes an argument of its own."""


async def fetch(pool: Pool, statement: Select[Any]) -> list[asyncpg.Record]:
    """Run a statement and return its rows.

    Raises:
        Unavailable: the database is away.

    """
    text, arguments = compiled(statement)
    async with database_errors():
        rows: list[asyncpg.Record] = await pool.fetch(text, *arguments)
        return rows


async def fetch_one(pool: Pool, statement: Select[Any]) -> asyncpg.Record | None:
    """Run a statement and return its first row; None if it has none. Raises as `fetch`."""
    rows = await fetch(pool, statement)
    return rows[0] if rows else None


def compiled(statement: Select[Any]) -> tuple[str, list[Any]]:
    """Return a statement's text for PostgreSQL, and its arguments in the order of their numbers."""
    made = statement.compile(dialect=_DIALECT, compile_kwargs=_OPTIONS)
    return str(made), [made.params[name] for name in made.positiontup or ()]
