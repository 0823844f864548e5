"""A database that cannot serve is away for the caller, whatever it says about that; a wrong statement is not."""

import asyncpg
import pytest

from domain.errors import Unavailable
from infra.database import HeldConnection, OutcomeUnknown, database_errors, open_pool

UNABLE = {
    "the disk is full": "53100",
    "no memory is left": "53200",
    "no connection is left": "53300",
    "the statement was cancelled": "57014",
    "the server starts": "57P03",
    "the disk cannot be read": "58030",
    "the server has become a standby": "25006",
}
WRONG = {"a unique key twice": "23505", "a number out of range": "22003"}


def failing_with(sqlstate: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'a test' USING ERRCODE = '{sqlstate}'; END $$"


@pytest.mark.parametrize("sqlstate", UNABLE.values(), ids=UNABLE)
async def test_a_server_that_cannot_serve_is_away_and_has_committed_nothing(database_url: str, sqlstate: str) -> None:
    connection = HeldConnection(database_url, name="tests")
    pool = await open_pool(database_url, name="tests", size=1)
    with pytest.raises(Unavailable) as refused:
        await connection.fetch(failing_with(sqlstate))
    assert not isinstance(refused.value, OutcomeUnknown)
    with pytest.raises(Unavailable):
        async with database_errors():
            await pool.execute(failing_with(sqlstate))
    assert await connection.fetch("SELECT 1"), "the connection still serves"
    await connection.close()
    await pool.close()


@pytest.mark.parametrize("sqlstate", WRONG.values(), ids=WRONG)
async def test_an_error_of_the_data_stays_one(database_url: str, sqlstate: str) -> None:
    connection = HeldConnection(database_url, name="tests")
    with pytest.raises(asyncpg.PostgresError):
        await connection.fetch(failing_with(sqlstate))
    with pytest.raises(asyncpg.PostgresError):
        async with database_errors():
            await connection.fetch(failing_with(sqlstate))
    await connection.close()
