"""The queue on NATS: bounded work in progress, redelivery, and a stream that is lost or comes back."""

import asyncio
import hashlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from domain.errors import Overloaded
from domain.job_result import Receipt
from domain.tokens import TokenUsage
from infra.broker import Broker
from infra.byte_budget import ByteBudget, BytesInHand
from infra.embedded_nats import EmbeddedNats
from infra.jobs import ACK_WAIT_S, MAX_DELIVERIES, STREAM, Job, JobQueue, Lane, consumer_name
from infra.replies import MAX_RESENDS, Committed, ReplyInbox
from infra.reply_frames import FRAME_BYTES
from infra.reply_sender import ReplySender
from tests.support.jobs import make_job
from tests.support.ledger import START
from tests.support.waiting import eventually, eventually_so
from workers.delivery import Delivery, UnackedDeliveries
from workers.heartbeat import HeartbeatThread
from workers.job_pool import CRASH_DELAY_S, JobPool
from workers.pull import PullLoop

Handle = Callable[[Delivery], Awaitable[None]]


def job(number: int) -> Job:
    """Return a job of one of a project's three keys."""
    return make_job(request_id=f"req_{number:04}", key_id=f"key_{number % 3}")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[Broker, JobQueue]]:
    broker = Broker()
    await broker.connect([url], name="tests")
    queue = JobQueue(broker)
    await queue.ensure()
    yield broker, queue
    await broker.close()


@asynccontextmanager
async def pulling(
    broker: Broker,
    queue: JobQueue,
    handle: Handle,
    slots: int = 4,
    *,
    max_waiting: int = 4,
    unacked: UnackedDeliveries | None = None,
    lanes: tuple[Lane, ...] = ("sync",),
    crash_delay_s: float = CRASH_DELAY_S,
) -> AsyncIterator[asyncio.Event]:
    """Run a worker until the block ends or sets the event that it is given."""
    stop = asyncio.Event()
    pool = JobPool(broker, unacked or UnackedDeliveries(), slots=slots, drain_timeout_s=5, crash_delay_s=crash_delay_s)
    loops = [
        PullLoop(
            broker,
            pool,
            consumer=consumer_name(lane),
            handle=handle,
            restore=queue.restore,
            max_waiting=max_waiting,
            max_waiting_bytes=64 * 1024 * 1024,
        )
        for lane in lanes
    ]
    running = [asyncio.create_task(part.run(stop)) for part in (pool, *loops)]
    yield stop
    stop.set()
    await asyncio.gather(*running)


async def test_no_more_jobs_are_in_hand_than_there_are_slots(nats_url: str) -> None:
    in_hand, most, done = 0, 0, set[str]()

    async def handle(delivery: Delivery) -> None:
        nonlocal in_hand, most
        in_hand += 1
        most = max(most, in_hand)
        await asyncio.sleep(0.005)
        in_hand -= 1
        done.add(delivery.message_id)
        await delivery.ack()

    async with connected(nats_url) as (broker, queue):
        async with pulling(broker, queue, handle, slots=4):
            jobs = [make_job(request_id=f"req_{n:04}", provider=f"provider-{n % 2}") for n in range(60)]
            await asyncio.gather(*(queue.publish(one) for one in jobs))
            await eventually(lambda: len(done) == 60)
        assert most == 4
        assert (await broker.client.jetstream().stream_info(STREAM)).state.messages == 0


async def test_a_job_published_twice_is_delivered_once(nats_url: str) -> None:
    seen: list[str] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.message_id)
        await delivery.ack()

    async with connected(nats_url) as (broker, queue), pulling(broker, queue, handle):
        for number in (1, 1, 2):
            await queue.publish(job(number))
        await eventually(lambda: "req_0002" in seen)
    assert seen == ["req_0001", "req_0002"]


async def test_the_depth_of_the_queue_is_what_no_worker_has_pulled(nats_url: str) -> None:
    async with connected(nats_url) as (_, queue):
        for number in range(3):
            await queue.publish(job(number))
        await queue.publish(job(3), "async")
        assert await queue.waiting_jobs() == {"sync": 3, "bulk": 0, "async": 1, "alerts": 0, "webhooks": 0}


async def test_failing_job_is_redelivered_up_to_its_limit(nats_url: str) -> None:
    deliveries: list[int] = []

    async def handle(delivery: Delivery) -> None:
        deliveries.append(delivery.number)
        raise LookupError

    async with connected(nats_url) as (broker, queue):
        jetstream = broker.client.jetstream()
        async with pulling(broker, queue, handle, crash_delay_s=0.01):
            await queue.publish(job(1))
            await eventually(lambda: len(deliveries) == MAX_DELIVERIES)
            await asyncio.sleep(0.1)
        assert deliveries == list(range(1, MAX_DELIVERIES + 1))

        async def is_empty() -> bool:
            return (await jetstream.stream_info(STREAM)).state.messages == 0

        await eventually_so(is_empty)  # the broker handles an acknowledgement later


async def test_stopping_worker_finishes_running_jobs_and_returns_others(nats_url: str) -> None:
    first, second = set[str](), set[str]()
    go_on = asyncio.Event()

    async def slowly(delivery: Delivery) -> None:
        await go_on.wait()
        first.add(delivery.message_id)
        await delivery.ack()

    async def handle(delivery: Delivery) -> None:
        second.add(delivery.message_id)
        await delivery.ack()

    async with connected(nats_url) as (broker, queue):
        async with pulling(broker, queue, slowly, slots=2):
            for number in range(10):
                await queue.publish(job(number))
            await asyncio.sleep(0.1)
            go_on.set()
        async with pulling(broker, queue, handle):
            await eventually(lambda: len(first | second) == 10)
    assert first
    assert not first & second


async def test_a_quiet_tenant_starts_while_a_flood_holds_its_slots(nats_url: str) -> None:
    started: list[str] = []
    end = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        started.append(delivery.project_id)
        if delivery.project_id == "prj_flood":
            await end.wait()
        await delivery.ack()

    async with (
        connected(nats_url) as (broker, queue),
        pulling(broker, queue, handle, slots=8, max_waiting=8, lanes=("sync", "bulk")),
    ):
        for number in range(60):  # more than can wait in both lanes, and published before the quiet tenant's job
            tenant = {"project_id": "prj_flood", "key_id": f"key_{number % 5}", "provider": f"provider-{number % 2}"}
            await queue.publish(make_job(request_id=f"req_{number:04}", **tenant), "sync" if number < 4 else "bulk")
        await eventually(lambda: len(started) == 7)
        await queue.publish(make_job(request_id="req_quiet", project_id="prj_quiet"), "sync")
        await eventually(lambda: "prj_quiet" in started)
        assert started.count("prj_flood") == 7
        end.set()
        await eventually(lambda: len(started) == 61)


async def test_stopping_worker_returns_waiting_jobs(nats_url: str) -> None:
    begun, taken_over = list[str](), list[str]()
    end = asyncio.Event()

    async def slowly(delivery: Delivery) -> None:
        begun.append(delivery.message_id)
        await end.wait()
        await delivery.ack()

    async def handle(delivery: Delivery) -> None:
        taken_over.append(delivery.message_id)
        await delivery.ack()

    async with connected(nats_url) as (broker, queue), pulling(broker, queue, slowly, slots=1) as stop:
        for number in range(4):
            await queue.publish(job(number))
        await eventually(lambda: begun)
        stop.set()
        async with pulling(broker, queue, handle):
            await eventually(lambda: len(taken_over) == 3)
        end.set()
    assert len({*begun, *taken_over}) == 4


async def test_a_blocked_event_loop_loses_no_delivery(nats_url: str) -> None:
    started: list[str] = []
    ended: dict[str, int] = {}
    may_end = asyncio.Event()

    def publish_while_blocked() -> None:
        async def publish() -> None:
            async with connected(nats_url) as (_, queue):
                await queue.publish(make_job(request_id="req_buffered", project_id="prj_other"))

        asyncio.run(publish())

    async def handle(delivery: Delivery) -> None:
        started.append(delivery.message_id)
        if delivery.message_id == "req_blocks":
            await eventually(lambda: len(started) == 2)
            publishing = threading.Thread(target=publish_while_blocked)
            publishing.start()
            time.sleep(ACK_WAIT_S * 1.5)  # noqa: ASYNC251 - blocking the loop is the fault under test
            publishing.join()
        elif delivery.message_id == "req_beside":
            await may_end.wait()
        else:
            await asyncio.sleep(1)  # so that a redelivery arrives while the job runs
        ended[delivery.message_id] = delivery.number
        await delivery.ack()

    unacked = UnackedDeliveries()
    heartbeats = HeartbeatThread(unacked, [nats_url], name="heartbeats of tests")
    heartbeats.start()
    async with connected(nats_url) as (broker, queue):
        async with pulling(broker, queue, handle, unacked=unacked):
            await queue.publish(make_job(request_id="req_beside", project_id="prj_beside"))
            await queue.publish(make_job(request_id="req_blocks", project_id="prj_blocks"))
            await eventually(lambda: len(started) == 3, within_s=ACK_WAIT_S * 4)
            await asyncio.sleep(0.5)
            may_end.set()
        assert sorted(started) == ["req_beside", "req_blocks", "req_buffered"]
        assert (ended["req_beside"], ended["req_blocks"]) == (1, 1), "the job was not redelivered"

        async def is_empty() -> bool:
            return (await broker.client.jetstream().stream_info(STREAM)).state.messages == 0

        await eventually_so(is_empty)  # the broker handles an acknowledgement later
    await heartbeats.stop()


async def test_a_queue_that_was_deleted_is_made_again_and_used(nats_url: str) -> None:
    done = set[str]()

    async def handle(delivery: Delivery) -> None:
        done.add(delivery.message_id)
        await delivery.ack()

    async with connected(nats_url) as (broker, queue), pulling(broker, queue, handle):
        await queue.publish(job(1))
        await eventually(lambda: len(done) == 1)
        await broker.client.jetstream().delete_stream(STREAM)
        await queue.publish(job(2))
        await eventually(lambda: len(done) == 2, within_s=20)


async def test_a_broker_that_comes_back_has_lost_no_job(tmp_path: Path) -> None:
    done = set[str]()

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0.02)
        done.add(delivery.message_id)
        await delivery.ack()

    server = EmbeddedNats(tmp_path)
    try:
        async with connected(server.start()) as (broker, queue):
            for number in range(20):
                await queue.publish(job(number))
            async with pulling(broker, queue, handle, slots=1):
                await eventually(lambda: len(done) >= 1)
                assert len(done) < 20
                server.process.kill()
                server.process.wait()
                await eventually(lambda: not broker.is_connected)
                server.launch()
                await eventually(lambda: len(done) == 20, within_s=30)
    finally:
        server.stop()


async def test_messages_are_taken_at_once_and_one_that_cannot_be_ends_nothing(nats_url: str) -> None:
    taken: list[tuple[str, str, bytes]] = []

    def take(subject: str, reply: str, data: bytes) -> None:
        if data == b"bad":
            raise ValueError("cannot be taken")
        taken.append((subject, reply, data))

    async with connected(nats_url) as (broker, _):
        subscription = await broker.subscribe("things.*", take)
        await broker.client.publish("things.a", b"bad", headers={"a": "b"})
        await broker.client.publish("things.b", b"good", reply="answers")
        await eventually(lambda: taken == [("things.b", "answers", b"good")])
        await subscription.unsubscribe()
        await broker.client.publish("things.c", b"late")
        await broker.client.flush()
        assert len(taken) == 1


async def test_a_flush_confirms_what_was_published_before_it(nats_url: str) -> None:
    taken: list[bytes] = []
    async with connected(nats_url) as (broker, _):
        await broker.subscribe("things", lambda _subject, _reply, data: taken.append(data))
        for number in range(3):
            await broker.client.publish("things", b"%d" % number)
            await broker.client.flush()
            assert len(taken) == number + 1


async def test_a_server_that_stood_still_for_less_than_its_connections_last_is_heard_again(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    try:
        async with connected(server.start()) as (broker, _):
            taken: list[bytes] = []
            await broker.subscribe("things", lambda _subject, _reply, data: taken.append(data))

            async def is_silent() -> bool:
                try:
                    await broker.client.flush(timeout=0.1)  # type: ignore[arg-type]  # a float is waited for as well
                except TimeoutError:
                    return True
                return False

            server.process.send_signal(signal.SIGSTOP)
            await eventually_so(is_silent)
            server.process.send_signal(signal.SIGCONT)
            await broker.client.flush()
            await broker.client.publish("things", b"after")
            await broker.client.flush()
            assert taken == [b"after"]
            assert broker.client.stats["reconnects"] == 0
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.stop()


async def test_an_answer_arrives_whole_in_many_frames(nats_url: str) -> None:
    body = bytes(range(256)) * (3 * FRAME_BYTES // 256) + b"end"
    receipt = Receipt(
        provider="echo", upstream_model="echo", usage=TokenUsage(input=1), cost_nano_usd=None, answered_at=START
    )
    async with connected(nats_url) as (broker, _):
        inbox = ReplyInbox(broker, "api_1")
        await inbox.open()
        sender = ReplySender(broker)
        with inbox.expect("req_1") as ended:
            await sender.send_body(inbox.subject("req_1"), 1, b"of an attempt that came to nothing")
            await sender.send_body(inbox.subject("req_1"), 2, body)
            assert not ended.done()
            digest = hashlib.sha256(body).digest()
            await sender.send_commit(inbox.subject("req_1"), 2, digest, receipt)
            assert await asyncio.wait_for(ended, 5) == Committed(2, body, receipt)
        with inbox.expect("req_2") as ended:
            await sender.send_commit(inbox.subject("req_2"), 1, digest, receipt)
            assert await asyncio.wait_for(ended, 5 * MAX_RESENDS) == Committed(1, None, receipt)
        budget = ByteBudget(len(body))
        with inbox.expect("req_3", BytesInHand(budget, "project")) as ended:
            await sender.send_body(inbox.subject("req_3"), 1, body)
            with pytest.raises(Overloaded):
                await asyncio.wait_for(ended, 5)
        await inbox.close()


@pytest.mark.parametrize("after_s", [0.05, 0.5])
def test_unsent_messages_do_not_block_the_close_of_a_lost_broker(tmp_path: Path, after_s: float) -> None:
    async def publish_cancel() -> None:
        server, broker = EmbeddedNats(tmp_path), Broker()
        await broker.connect([server.start()], name="tests")
        server.stop()
        await asyncio.sleep(after_s)
        await broker.client.publish("tests", b"unsent")
        await broker.close()
        assert broker.is_closed

    uvloop.run(publish_cancel())
