"""Which of the keys that a request presents is looked up, and how often."""

import asyncio
import os
from typing import Any

import pytest

from api.authentication import MAX_LOOK_UPS_WAITING, MAX_UNKNOWN, Authenticator, presented_keys
from domain.api_key import SECRET_BYTES, format_api_key
from domain.errors import Overloaded, Unauthorized
from domain.events import INSTALLATION
from infra.vault import Vault
from tests.support.waiting import eventually

OURS, OTHER = format_api_key(b"a" * SECRET_BYTES), format_api_key(b"b" * SECRET_BYTES)
LOGIN = "sk-ant-oat01-a-login-at-the-vendor"


class CountingPool:
    """A database without keys, which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.statements = 0

    async def fetch(self, _query: str, secret_hashes: list[bytes], **_options: Any) -> list[Any]:
        self.statements += 1
        self.asked.extend(secret_hashes)
        await asyncio.sleep(0.01)
        return []


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ({}, []),
        ({"authorization": f"Bearer {OURS}"}, [OURS]),
        ({"authorization": f"bearer  {OURS} "}, [OURS]),
        ({"authorization": f"BEARER {OURS}"}, [OURS]),
        ({"authorization": "Basic dXNlcjpwYXNz"}, []),
        ({"authorization": "Bearer "}, []),
        ({"x-api-key": OURS}, [OURS]),
        ({"api-key": OURS}, [OURS]),
        ({"x-goog-api-key": OURS}, [OURS]),
        ({"authorization": f"Bearer {LOGIN}", "x-api-key": OURS}, [LOGIN, OURS]),
        ({"authorization": "Basic dXNlcjpwYXNz", "api-key": OURS}, [OURS]),
        ({"authorization": f"Bearer {OURS}", "x-api-key": OURS, "api-key": OURS}, [OURS]),
    ],
)
def test_a_key_stands_in_the_header_of_any_vendor(headers: dict[str, str], keys: list[str]) -> None:
    assert presented_keys(headers) == keys


async def _asked(headers: dict[str, str]) -> int:
    pool: Any = CountingPool()
    authenticator = Authenticator(pool, Vault(os.urandom(32)))
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(headers)
    await authenticator.close()
    return len(pool.asked)


async def test_a_login_elsewhere_is_never_looked_up() -> None:
    assert await _asked({"authorization": f"Bearer {LOGIN}", "x-api-key": "also-not-ours"}) == 0


async def test_each_key_is_looked_up_once() -> None:
    assert await _asked({"authorization": f"Bearer {OURS}"}) == 1
    assert await _asked({"authorization": f"Bearer {LOGIN}", "x-api-key": OURS}) == 1
    assert await _asked({"authorization": f"Bearer {OURS}", "x-api-key": OURS, "api-key": OURS}) == 1
    assert await _asked({"authorization": f"Bearer {OURS}", "x-api-key": OTHER}) == 2


@pytest.mark.parametrize("changed", [INSTALLATION, "prj_1"])
async def test_what_a_look_up_saw_before_a_change_is_not_remembered(changed: str) -> None:
    pool: Any = CountingPool()
    authenticator = Authenticator(pool, Vault(os.urandom(32)))
    asking = asyncio.create_task(authenticator.authenticate({"api-key": OURS}))
    await eventually(lambda: pool.statements == 1)
    authenticator.forget(changed)
    later = asyncio.create_task(authenticator.authenticate({"api-key": OURS}))
    for task in (asking, later):
        with pytest.raises(Unauthorized):
            await task
    assert pool.statements == 2
    with pytest.raises(Unauthorized):
        await authenticator.authenticate({"api-key": OURS})
    assert pool.statements == 2, "the second is remembered"
    await authenticator.close()


async def test_ten_thousand_unknown_keys_at_once_are_a_few_statements_and_a_bounded_memory() -> None:
    """Each is well-formed: anybody can compute the checksum."""
    pool: Any = CountingPool()
    authenticator = Authenticator(pool, Vault(os.urandom(32)))
    for round_number in range(3):
        keys = [format_api_key((round_number * 10**6 + number).to_bytes(SECRET_BYTES)) for number in range(10_000)]
        outcomes = await asyncio.gather(
            *(authenticator.authenticate({"x-api-key": key}) for key in keys), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {Unauthorized}
    assert pool.statements < 100
    assert len(authenticator._unknown) == MAX_UNKNOWN
    assert (len(authenticator._remembered), len(authenticator._looking_up)) == (0, 0)
    await authenticator.close()


async def test_more_look_ups_than_may_wait_are_refused_at_once() -> None:
    pool: Any = CountingPool()
    authenticator = Authenticator(pool, Vault(os.urandom(32)))
    keys = [format_api_key(number.to_bytes(SECRET_BYTES)) for number in range(MAX_LOOK_UPS_WAITING + 10)]
    outcomes = await asyncio.gather(
        *(authenticator.authenticate({"x-api-key": key}) for key in keys), return_exceptions=True
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert set(kinds) == {Unauthorized, Overloaded}
    assert kinds.count(Overloaded) == 10
    await authenticator.close()
