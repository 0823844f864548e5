"""Sessions of the dashboard in the database: how many there are, how long, and who ends them."""

from collections.abc import AsyncIterator

import pytest

from infra.dashboard_sessions import MAX_OF_CREDENTIAL, DashboardSessions
from infra.database import Pool, open_pool
from infra.embedded_postgres import ROLES
from tests.support.services import as_role

KEY = {"project_id": "prj_1", "key_id": "key_1", "credential_hash": b"key 1", "client": "a browser"}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Return a pool as the role of API processes."""
    opened = await open_pool(as_role(database_url, ROLES["api"]), name="test", size=2)
    yield opened
    await opened.close()


async def test_the_oldest_session_of_a_key_makes_room_for_another(pool: Pool) -> None:
    sessions = DashboardSessions(pool)
    await sessions.open(token_hash=b"other", session_id="other", **KEY | {"credential_hash": b"key 2"})
    for number in range(MAX_OF_CREDENTIAL + 1):
        await sessions.open(token_hash=b"%d" % number, session_id=f"session_{number}", **KEY)
    listed = [one.session_id for one in await sessions.list_open(project_id="prj_1", key_id="key_1")]
    assert len(listed) == MAX_OF_CREDENTIAL + 1
    assert listed[0] == f"session_{MAX_OF_CREDENTIAL}"
    assert await sessions.find(b"0") is None
    assert await sessions.find(b"1") is not None
    assert await sessions.find(b"other") is not None


async def test_a_session_that_is_over_is_not_found_and_goes_with_the_next(pool: Pool) -> None:
    sessions = DashboardSessions(pool)
    await pool.execute("SELECT open_dashboard_session('old', 'old', NULL, NULL, 'master', '', -1, 100)")
    assert await sessions.find(b"old") is None
    assert await sessions.list_open(project_id=None, key_id=None) == []
    await sessions.open(token_hash=b"new", session_id="new", **KEY)
    assert await pool.fetchval("SELECT count(*) FROM dashboard_sessions") == 1


async def test_a_session_is_ended_by_those_who_see_it(pool: Pool) -> None:
    sessions = DashboardSessions(pool)
    await sessions.open(token_hash=b"t", session_id="mine", **KEY)
    assert not await sessions.end("mine", project_id="prj_2", key_id=None)
    assert not await sessions.end("mine", project_id="prj_1", key_id="key_2")
    assert await sessions.find(b"t") is not None
    assert await sessions.end("mine", project_id="prj_1", key_id=None)
    assert not await sessions.end("mine", project_id=None, key_id=None)
    assert await sessions.find(b"t") is None
