"""The queue on three NATS servers: replicas are raised without losing a job, and servers die or hang."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from nats.js.errors import APIError

from infra.broker import Broker
from infra.jobs import STREAM, JobQueue, Replicas, consumer_name
from tests.support.jobs import make_job
from tests.support.nats_cluster import ClusteredServer, NatsCluster, nats_cluster
from tests.support.waiting import eventually, eventually_so
from workers.delivery import AttemptsInHand, UnackedDeliveries
from workers.heartbeat import HeartbeatThread


@pytest.fixture(scope="module")
def cluster() -> Iterator[NatsCluster]:
    with nats_cluster() as running:
        yield running


@pytest.fixture
async def broker(cluster: NatsCluster) -> AsyncIterator[Broker]:
    connected = Broker()
    await connected.connect(cluster.urls, name="tests")
    jetstream = connected.client.jetstream()
    with suppress(APIError):
        await jetstream.delete_stream(STREAM)
    yield connected
    await connected.close()


async def test_a_queue_on_three_servers_has_three_replicas(broker: Broker) -> None:
    queue = JobQueue(broker)
    await queue.ensure()

    async def is_replicated() -> bool:
        return await queue.replicas() == Replicas(wanted=3, current=3, lagging=())

    await eventually_so(is_replicated, within_s=60)
    consumer = await broker.client.jetstream().consumer_info(STREAM, consumer_name("sync"))
    assert consumer.cluster is not None
    assert len(consumer.cluster.replicas or []) == 2


async def test_queue_replicas_are_raised_in_place_and_never_lowered(broker: Broker) -> None:
    jetstream = broker.client.jetstream()
    await JobQueue(broker, replicas=1).ensure()
    for number in range(20):
        await JobQueue(broker).publish(make_job(request_id=f"req_{number}"))
    assert (await JobQueue(broker).replicas()).current == 1
    await JobQueue(broker).raise_replicas()

    async def is_raised() -> bool:
        replicas = await JobQueue(broker).replicas()
        consumer = await jetstream.consumer_info(STREAM, consumer_name("sync"))
        peers = consumer.cluster.replicas if consumer.cluster is not None else None
        return replicas == Replicas(wanted=3, current=3, lagging=()) and len(peers or []) == 2

    await eventually_so(is_raised, within_s=60)
    await JobQueue(broker, replicas=1).ensure()
    assert (await JobQueue(broker, replicas=1).replicas()).wanted == 3
    subscription = await jetstream.pull_subscribe_bind(stream=STREAM, consumer=consumer_name("sync"))
    messages = await subscription.fetch(20, timeout=10)
    assert {message.headers["Nats-Msg-Id"] for message in messages} == {f"req_{number}" for number in range(20)}


async def test_a_job_is_confirmed_once_although_the_leader_dies(broker: Broker, cluster: NatsCluster) -> None:
    queue, jetstream = JobQueue(broker), broker.client.jetstream()
    await queue.ensure()
    info = await jetstream.stream_info(STREAM)
    assert info.cluster is not None
    leader = cluster.named(info.cluster.leader or "")
    leader.kill()
    try:
        await queue.publish(make_job(request_id="req_1"))
        await queue.publish(make_job(request_id="req_1"))
        assert (await jetstream.stream_info(STREAM)).state.messages == 1

        async def lags() -> bool:
            return (await queue.replicas()).lagging == (leader.name,)

        await eventually_so(lags, within_s=60)
    finally:
        leader.start()

    async def is_replicated() -> bool:
        return (await queue.replicas()).lagging == ()

    await eventually_so(is_replicated, within_s=60)


async def test_silent_server_is_left(broker: Broker, cluster: NatsCluster) -> None:
    queue = JobQueue(broker)
    await queue.ensure()
    url = broker.client.connected_url
    frozen = server_of(broker, cluster)
    frozen.freeze()
    began_s = time.monotonic()
    try:
        # more than the socket buffers, so that a close of the connection could hang, too
        flooding = [asyncio.create_task(broker.client.publish("tests", bytes(1024 * 1024))) for _ in range(24)]
        await eventually(lambda: broker.client.connected_url not in (None, url), within_s=60)
        await asyncio.gather(*flooding)
        await broker.client.flush(timeout=5)
        assert time.monotonic() - began_s < 60
    finally:
        frozen.thaw()


async def test_worker_whose_server_is_silent_is_known_to_be_at_work(broker: Broker, cluster: NatsCluster) -> None:
    attempts = AttemptsInHand(broker, "wrk_1")
    await attempts.listen()
    heartbeats = HeartbeatThread(UnackedDeliveries(), cluster.urls, name="tests", attempts=attempts, beside=broker)
    heartbeats.start()
    other = Broker()
    await other.connect(cluster.urls, name="tests")
    await eventually(lambda: heartbeats.server_id not in (None, broker.server_id), within_s=60)
    while other.server_id == broker.server_id:
        before = other.client.stats["reconnects"]
        await other.leave_server()
        await eventually(lambda before=before: other.client.stats["reconnects"] > before)  # type: ignore[misc]
    frozen = server_of(broker, cluster)
    frozen.freeze()
    try:
        with attempts.making("req_1", 1):
            assert await AttemptsInHand(other, "wrk_2").maker_of("req_1", 1, "wrk_1") == "at work"
            assert await AttemptsInHand(other, "wrk_2").maker_of("req_2", 1, "wrk_1") == "gone"
    finally:
        frozen.thaw()
        await heartbeats.stop()
        await other.close()


async def test_worker_whose_own_server_is_silent_takes_no_other_for_silent(
    broker: Broker, cluster: NatsCluster
) -> None:
    frozen = server_of(broker, cluster)
    frozen.freeze()
    try:
        assert await AttemptsInHand(broker, "wrk_2").maker_of("req_1", 1, "wrk_1") == "at work"
    finally:
        frozen.thaw()


def server_of(broker: Broker, cluster: NatsCluster) -> ClusteredServer:
    url = broker.client.connected_url
    assert url is not None
    return next(server for server in cluster.servers if server.url.endswith(f":{url.port}"))
