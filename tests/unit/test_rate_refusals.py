"""After a rate limit refusal, a key is refused from memory until the limit allows a request, or its settings change."""

import time
from typing import Any

import pytest

from api.authentication import Caller
from api.refusals import MAX_KEYS, RateRefusals
from domain.errors import RateLimited
from domain.events import KeySettings
from domain.limits import NANO_PER_S, LimitStatus, Meter


def caller(key_id: str = "key_1", **fields: Any) -> Caller:
    known: dict[str, Any] = {
        "key_id": key_id,
        "key_version": 1,
        "secret_hash": b"",
        "project_id": "prj_1",
        "project_name": "a project",
        "is_limited": True,
        "settings": KeySettings(name="a key"),
        "providers": (),
        "routes": {},
        "cancel_on_disconnect": False,
        "own_credentials": frozenset(),
    }
    return Caller(**known | fields)


def refusal(retry_after_s: float) -> RateLimited:
    error = RateLimited("this key may make 6 requests a minute", retry_after_s=retry_after_s)
    error.limit_status = LimitStatus(requests=Meter(limit=6, remaining=0, reset_ns=60 * NANO_PER_S))
    return error


def test_is_refused_until_the_rate_has_room() -> None:
    refusals = RateRefusals()
    refusals.note(caller(), refusal(100.0), time.monotonic() - 40)
    with pytest.raises(RateLimited) as raised:
        refusals.check(caller())
    assert raised.value.retry_after_s is not None
    assert 50 < raised.value.retry_after_s <= 60
    limit_status = raised.value.limit_status
    assert limit_status is not None
    assert limit_status.requests is not None
    assert limit_status.requests.reset_ns <= 20 * NANO_PER_S


def test_passes_once_the_rate_has_room() -> None:
    refusals = RateRefusals()
    refusals.note(caller(), refusal(10.0), time.monotonic() - 10)
    refusals.check(caller())


def test_other_keys_and_other_settings_pass() -> None:
    refusals = RateRefusals()
    refusals.note(caller(), refusal(100.0), time.monotonic())
    refusals.check(caller("key_2"))
    refusals.check(caller(key_version=2))
    refusals.check(caller())  # the change removed the refusal


def test_expired_keys_make_room() -> None:
    refusals = RateRefusals()
    for number in range(MAX_KEYS):
        refusals.note(caller(f"key_{number}"), refusal(1.0 if number else 100.0), time.monotonic() - 50)
    refusals.note(caller("key_last"), refusal(100.0), time.monotonic())
    for key_id in ("key_0", "key_last"):
        with pytest.raises(RateLimited):
            refusals.check(caller(key_id))
    refusals.check(caller("key_1"))
