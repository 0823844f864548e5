"""Which of the keys that a request presents is looked up, and how often."""

import os
from typing import Any

import pytest

from api.authentication import Authenticator, presented_keys
from domain.api_key import SECRET_BYTES, format_api_key
from domain.errors import Unauthorized
from infra.vault import Vault

OURS, OTHER = format_api_key(b"a" * SECRET_BYTES), format_api_key(b"b" * SECRET_BYTES)
LOGIN = "sk-ant-oat01-a-login-at-the-vendor"


class CountingPool:
    """A database without keys, which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def fetchrow(self, _query: str, secret_hash: bytes, **_options: Any) -> None:
        self.asked.append(secret_hash)


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
    return len(pool.asked)


async def test_a_login_elsewhere_is_never_looked_up() -> None:
    assert await _asked({"authorization": f"Bearer {LOGIN}", "x-api-key": "also-not-ours"}) == 0


async def test_each_key_is_looked_up_once() -> None:
    assert await _asked({"authorization": f"Bearer {OURS}"}) == 1
    assert await _asked({"authorization": f"Bearer {LOGIN}", "x-api-key": OURS}) == 1
    assert await _asked({"authorization": f"Bearer {OURS}", "x-api-key": OURS, "api-key": OURS}) == 1
    assert await _asked({"authorization": f"Bearer {OURS}", "x-api-key": OTHER}) == 2
