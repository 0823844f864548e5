"""Runs reads that are composed with SQLAlchemy Core on asyncpg's own pool: no engine and no session of its own.

A statement is compiled once for each of its forms: those that differ in their values alone have the same text. An
engine would keep texts in the same way (SQLAlchemy's documentation, "SQL Compilation Caching").
"""

from functools import lru_cache
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, SelectBase, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.sql.cache_key import CacheKey
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import Text

from infra.database import Pool, database_errors

MAX_FORMS = 500
_DIALECT = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's


class _Form:
    """A statement without its values, as a key."""

    def __init__(self, statement: SelectBase, key: CacheKey) -> None:
        self.statement = statement
        self.key = key
        self._hash = hash(key.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Form) and self.key.key == other.key.key


@lru_cache(MAX_FORMS)
def _text_of(form: _Form) -> SQLCompiler:
    return _DIALECT.statement_compiler(_DIALECT, form.statement, cache_key=form.key)


def compiled(statement: SelectBase) -> tuple[str, list[Any]]:
    """Return a statement's text for PostgreSQL, and its arguments in the order of their numbers."""
    key = statement._generate_cache_key()  # noqa: SLF001 - as an engine does
    assert key is not None, "a statement of parts that all have a form"
    made = _text_of(_Form(statement, key))
    parameters = made.construct_params(extracted_parameters=key.bindparams)
    return made.string, [parameters[name] for name in made.positiontup or ()]


async def fetch(pool: Pool, statement: SelectBase) -> list[asyncpg.Record]:
    """Run a statement and return its rows.

    Raises:
        Unavailable: the database is away.

    """
    text, arguments = compiled(statement)
    async with database_errors():
        rows: list[asyncpg.Record] = await pool.fetch(text, *arguments)
        return rows


async def fetch_one(pool: Pool, statement: SelectBase) -> asyncpg.Record | None:
    """Run a statement and return its first row; None if it has none. Raises as `fetch`."""
    rows = await fetch(pool, statement)
    return rows[0] if rows else None


def is_one_of(column: ColumnElement[str], values: list[str]) -> ColumnElement[bool]:
    """True if a column has one of these values. One argument, however many there are."""
    return column == any_(literal(values, ARRAY(Text)))
