"""Which workers are gone: those that are asked where they listen, all at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

from nats.errors import NoRespondersError

from infra.presence import MAX_ASKED_AT_ONCE, gone_of, gone_workers
from infra.reply_subjects import claims_subject


class Nobody:
    """A broker on which nothing listens."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def request(self, subject: str, _payload: bytes, *, timeout: float) -> None:  # noqa: ASYNC109 - as nats-py
        assert timeout > 0
        self.asked.append(subject)
        raise NoRespondersError


async def test_a_worker_is_gone_if_nothing_listens_where_it_would() -> None:
    nobody = Nobody()
    broker: Any = SimpleNamespace(client=nobody)
    assert await gone_workers(broker)("wrk_1")
    assert set(nobody.asked) == {claims_subject("wrk_1")}


async def test_of_a_worker_of_a_release_before_nothing_is_known() -> None:
    nobody = Nobody()
    broker: Any = SimpleNamespace(client=nobody)
    assert not await gone_workers(broker)("gateway worker of:a release before")
    assert nobody.asked == []


async def test_workers_are_asked_at_once_so_many_at_a_time() -> None:
    workers = [f"wrk_{number:03}" for number in range(2 * MAX_ASKED_AT_ONCE)]
    asked: set[str] = set()
    most = 0

    async def is_gone(worker: str) -> bool:
        nonlocal most
        asked.add(worker)
        most = max(most, len(asked))
        await asyncio.sleep(0)
        asked.discard(worker)
        return worker != workers[0]

    assert await gone_of([*workers, workers[1]], is_gone) == set(workers[1:])
    assert most == MAX_ASKED_AT_ONCE
