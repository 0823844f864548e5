"""Workers tell each other of circuits over a real NATS, and one of them gets the probe."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.circuit import CircuitKey, CircuitSettings
from domain.errors import ProviderUnavailable
from domain.events import INSTALLATION
from infra.broker import Broker
from infra.circuit_news import BUCKET, CircuitNews
from tests.support.waiting import eventually
from workers.circuits import Circuits

KEY = CircuitKey(owner=INSTALLATION, provider="openai", model="gpt-4o-mini")


@pytest.fixture
async def brokers(nats_url: str) -> AsyncIterator[list[Broker]]:
    opened = [Broker() for _ in range(3)]
    for number, broker in enumerate(opened):
        await broker.connect([nats_url], name=f"tests {number}")
    yield opened
    for broker in opened:
        await broker.close()


async def test_of_several_processes_one_gets_the_probe(brokers: list[Broker]) -> None:
    news = [CircuitNews(broker) for broker in brokers]
    version = 1_000 + id(brokers) % 1_000_000
    claimed = await asyncio.gather(*(one.claim_probe(KEY, version) for one in news for _ in range(5)))
    assert sum(claimed) == 1
    assert await news[0].claim_probe(KEY, version + 1)


async def test_a_lost_bucket_is_made_again(brokers: list[Broker]) -> None:
    news = CircuitNews(brokers[0])
    assert await news.claim_probe(KEY, 7)
    await brokers[0].client.jetstream().delete_key_value(BUCKET)
    assert await news.claim_probe(KEY, 7)
    assert not await news.claim_probe(KEY, 7)


async def test_without_a_broker_each_process_probes_by_itself() -> None:
    news = CircuitNews(Broker())
    assert await news.claim_probe(KEY, 7)
    assert await news.claim_probe(KEY, 7)


async def test_workers_hear_what_one_of_them_has_found_and_report_it(brokers: list[Broker]) -> None:
    settings, workers = CircuitSettings(min_calls=2), []
    for number, broker in enumerate(brokers[:2]):
        news = CircuitNews(broker)
        circuits = Circuits(settings, worker=f"w{number}", claim=news.claim_probe)
        await news.hear(circuits.take)
        await news.serve_reports(circuits.report)
        await broker.client.flush()
        workers.append((news, circuits))
    (news, first), (_, second) = workers
    for _ in range(2):
        first.record(KEY, "prj_a", ProviderUnavailable("down", provider="openai"), began_s=0.0, hint="wxyz")
    told = first.news()
    assert told is not None
    await news.tell(told)
    await eventually(lambda: second.states()["open"] == 1)

    reports = await CircuitNews(brokers[2]).reports(INSTALLATION)
    assert {report.worker: [one.told.state for one in report.circuits] for report in reports} == {
        "w0": ["open"],
        "w1": ["open"],
    }
    assert await CircuitNews(brokers[2]).reports("prj_a") != []
