"""Requests that need the same keys at once look them up once."""

import asyncio
from typing import Any

from domain.errors import Unavailable
from infra.provider_keys import MAX_AGE_S, Access, ProviderKeys
from tests.support.waiting import eventually


class Database:
    """Has no keys, and answers when it is let."""

    def __init__(self) -> None:
        self.look_ups = 0
        self.answers = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self, *_: object) -> list[Any]:
        self.look_ups += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return []


def keys_of(database: Any) -> ProviderKeys:
    vault: Any = None  # there is nothing to open
    return ProviderKeys(database, vault, {"openai": "sk-of-the-installation"})


async def test_requests_that_come_together_share_one_look_up() -> None:
    database = Database()
    keys = keys_of(database)
    asking = [asyncio.create_task(keys.accesses("prj", "openai")) for _ in range(64)]
    await asyncio.sleep(0)
    database.answers.set()
    assert set(await asyncio.gather(*asking)) == {(Access("sk-of-the-installation"),)}
    assert database.look_ups == 1


async def test_look_ups_of_other_projects_do_not_wait() -> None:
    database = Database()
    keys = keys_of(database)
    asking = [asyncio.create_task(keys.accesses(f"prj_{number}", "openai")) for number in range(3)]
    await eventually(lambda: database.look_ups == 3)
    database.answers.set()
    await asyncio.gather(*asking)


async def test_a_request_that_is_cancelled_leaves_the_look_up_to_the_next() -> None:
    database = Database()
    keys = keys_of(database)
    first, second = (asyncio.create_task(keys.accesses("prj", "openai")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    database.answers.set()
    assert await second == (Access("sk-of-the-installation"),)
    assert first.cancelled()
    assert database.look_ups == 1


async def test_requests_share_the_error_of_their_look_up_and_the_next_tries_again() -> None:
    database = Database()
    keys = keys_of(database)
    asking = [asyncio.create_task(keys.accesses("prj", "openai")) for _ in range(8)]
    await asyncio.sleep(0)
    database.error = OSError("the database is away")
    database.answers.set()
    assert {type(error) for error in await asyncio.gather(*asking, return_exceptions=True)} == {Unavailable}
    assert database.look_ups == 1
    database.error = None
    assert await keys.accesses("prj", "openai")


async def test_a_look_up_that_is_slow_is_not_made_again_by_each_that_waited() -> None:
    database = Database()
    keys = keys_of(database)
    asking = [asyncio.create_task(keys.accesses("prj", "openai")) for _ in range(8)]
    await asyncio.sleep(MAX_AGE_S * 1.1)
    asking += [asyncio.create_task(keys.accesses("prj", "openai")) for _ in range(8)]
    await asyncio.sleep(0)
    database.answers.set()
    await asyncio.gather(*asking)
    assert database.look_ups == 2


async def test_a_look_up_is_made_again_when_it_is_too_old_or_forgotten() -> None:
    database = Database()
    database.answers.set()
    keys = keys_of(database)
    await keys.accesses("prj", "openai")
    keys.forget("prj")
    await keys.accesses("prj", "openai")
    assert database.look_ups == 2
    await asyncio.sleep(MAX_AGE_S * 1.1)
    await keys.accesses("prj", "openai")
    assert database.look_ups == 3


async def test_a_look_up_that_was_under_way_at_a_change_is_not_kept() -> None:
    database = Database()
    keys = keys_of(database)
    asking = asyncio.create_task(keys.accesses("prj", "openai"))
    await asyncio.sleep(0)
    keys.forget("prj")
    database.answers.set()
    await asking
    await keys.accesses("prj", "openai")
    assert database.look_ups == 2
