"""Reads several statements of one report as of one moment, so that its parts add up while requests go on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from infra.database import Pool, database_errors, takes_too_long


@asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Pool]:
    """Give a connection that reads in the place of the pool: all its statements see the database as the first does.

    Raises:
        Unavailable: the database is away.
        Overloaded: a statement takes too long, or no connection is free.

    """
    async with (
        database_errors(),
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        try:
            yield connection
        except TimeoutError:
            raise takes_too_long() from None
