"""A connection that is given back to its pool keeps no transaction, and costs no statement."""

from infra.database import open_pool


async def test_an_open_transaction_and_its_settings_end_when_a_connection_is_given_back(database_url: str) -> None:
    pool = await open_pool(database_url, name="tests", size=1)
    async with pool.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute("SET LOCAL synchronous_commit = off")
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await pool.close()


async def test_a_connection_is_given_back_without_a_statement(database_url: str) -> None:
    pool = await open_pool(database_url, name="tests", size=1)
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
        await connection.fetchval("SELECT 1")
    await pool.close()
    assert statements == ["SELECT 1"]
