"""What the circuits hear of a call: whether the time that was over was one that the caller set."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from domain.dialects.registry import DIALECTS
from domain.errors import ProviderTimeout, TimeLimit
from domain.routes import RouteTarget
from tests.support.jobs import make_job
from workers.calls import ProviderCalls
from workers.watched_calls import WatchedCall


class Heard:
    """Circuits that remember what was recorded."""

    def __init__(self) -> None:
        self.recorded: list[bool] = []

    def record(self, *_: object, is_callers_limit: bool, **__: object) -> None:
        self.recorded.append(is_callers_limit)

    def heard(self, *_: object) -> None:
        raise AssertionError("nothing was answered")


class NoKeys:
    async def accesses(self, *_: str) -> tuple[()]:
        return ()


@pytest.mark.parametrize(
    ("limits", "over", "is_callers"),
    [
        ({"timeout_s": 10}, "total", True),
        ({"timeout_s": 100}, "total", False),
        ({"first_byte_timeout_s": 10}, "first_byte", True),
        ({"idle_timeout_s": 10}, "idle", True),
        ({"idle_timeout_s": 10}, "total", False),
        ({}, "first_byte", False),
    ],
)
async def test_a_limit_is_the_callers_if_its_target_sets_it_below_the_deadline(
    limits: Mapping[str, float], over: TimeLimit, is_callers: bool
) -> None:
    keys: Any = NoKeys()
    blobs: Any = None
    calls = ProviderCalls(providers={}, dialects=DIALECTS, keys=keys, base_urls={}, blobs=blobs)
    asked = RouteTarget(model="m", **limits)
    job = make_job(
        model="m",
        provider="openai",
        kind="openai",
        upstream_model="m",
        body=b'{"model":"m","messages":[{"role":"user","content":"hi"}]}',
        asked=asked,
    )
    heard: Any = Heard()
    call = replace((await calls.prepare(job)).call, timeout_s=min(60.0, asked.timeout_s or 60.0))
    with pytest.raises(ProviderTimeout), WatchedCall(heard, call):
        raise ProviderTimeout("late", provider="openai", limit=over)
    assert heard.recorded == [is_callers]
