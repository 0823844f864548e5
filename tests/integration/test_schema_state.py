"""What a database was last migrated to: whether a start may leave out the migration."""

import asyncpg
import pytest

from infra.embedded_postgres import OWNER, ROLES
from infra.schema_state import is_migrated
from tests.support.services import as_role


@pytest.fixture
def owner_url(database_url: str) -> str:
    return as_role(database_url, OWNER)


async def test_database_that_this_code_migrated_is_known(owner_url: str) -> None:
    assert await is_migrated(owner_url, ROLES, None)


async def test_other_roles_are_granted_by_a_migration(owner_url: str) -> None:
    assert not await is_migrated(owner_url, {**ROLES, "api": "another"}, None)
    assert not await is_migrated(owner_url, ROLES, "another")


@pytest.mark.parametrize(
    "other", ["UPDATE alembic_version SET version_num = '0001'", "COMMENT ON TABLE alembic_version IS 'of other code'"]
)
async def test_what_other_code_migrated_is_migrated(owner_url: str, other: str) -> None:
    connection = await asyncpg.connect(owner_url)
    await connection.execute(other)
    await connection.close()
    assert not await is_migrated(owner_url, ROLES, None)


async def test_grants_that_a_copy_has_lost_are_made_by_a_migration(owner_url: str) -> None:
    connection = await asyncpg.connect(owner_url)
    await connection.execute(f"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM {ROLES['worker']}")
    await connection.close()
    assert not await is_migrated(owner_url, ROLES, None)


async def test_new_database_is_migrated(owner_url: str) -> None:
    connection = await asyncpg.connect(owner_url)
    await connection.execute("DROP TABLE alembic_version")
    await connection.close()
    assert not await is_migrated(owner_url, ROLES, None)


async def test_database_that_is_away_is_left_to_the_migration() -> None:
    assert not await is_migrated("postgresql://nobody@127.0.0.1:1/none", ROLES, None)
