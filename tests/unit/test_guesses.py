"""Keys cannot be guessed at speed on the sign-in page."""

from typing import Any, cast

import pytest

from api.dashboard.guesses import GUESSES_PER_S, MAX_ADDRESSES, MAX_GUESSES, Guesses
from api.dashboard.sessions import SignIns
from domain.errors import RateLimited, Unauthorized
from infra.vault import Vault

MASTER_KEY = "a-master-key-of-the-operator"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class NoKeys:
    """Knows no key, and counts how often it was asked."""

    asked = 0

    async def authenticate(self, _: object) -> None:
        self.asked += 1
        raise Unauthorized("unknown")


class Opened:
    async def open(self, **_: object) -> None:
        """Open a session."""


def sign_ins(keys: NoKeys) -> SignIns:
    parts = cast("Any", Opened()), cast("Any", keys)
    return SignIns(*parts, Vault(bytes(32)), master_key=MASTER_KEY, keyless=False)


async def test_an_address_that_has_tried_many_wrong_keys_is_refused_before_the_next_is_looked_at() -> None:
    keys = NoKeys()
    asked = sign_ins(keys)
    for _ in range(MAX_GUESSES):
        with pytest.raises(Unauthorized):
            await asked.sign_in("wrong", client="", address="192.0.2.1")
    with pytest.raises(RateLimited):
        await asked.sign_in("wrong", client="", address="192.0.2.1")
    assert keys.asked == MAX_GUESSES
    assert await asked.sign_in(MASTER_KEY, client="", address="192.0.2.2")


async def test_right_keys_are_no_guesses() -> None:
    asked = sign_ins(NoKeys())
    for _ in range(3 * MAX_GUESSES):
        await asked.sign_in(MASTER_KEY, client="", address="192.0.2.1")


def test_guesses_come_back_and_a_refusal_costs_none() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    for _ in range(MAX_GUESSES):
        guesses.take("192.0.2.1")
    for _ in range(5):
        with pytest.raises(RateLimited) as refused:
            guesses.take("192.0.2.1")
    assert refused.value.retry_after_s == pytest.approx(1 / GUESSES_PER_S)
    clock.now_s += 1 / GUESSES_PER_S
    guesses.take("192.0.2.1")
    with pytest.raises(RateLimited):
        guesses.take("192.0.2.1")


def test_all_addresses_of_a_customers_network_are_one() -> None:
    guesses = Guesses(Clock())
    for number in range(MAX_GUESSES):
        guesses.take(f"2001:db8::{number:x}")
    with pytest.raises(RateLimited):
        guesses.take("2001:db8::ffff")
    guesses.take("2001:db8:0:1::1")


def test_a_bounded_number_of_addresses_is_remembered() -> None:
    guesses = Guesses(Clock())
    for number in range(MAX_ADDRESSES + 10):
        guesses.take(f"address {number}")
    assert len(guesses._full_at_s) == MAX_ADDRESSES
