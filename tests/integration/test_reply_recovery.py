"""Requests without reply frames: frames are sent again, outcomes read from the log, jobs dispatched directly."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from api.reply_recovery import ReplyRecovery
from domain.events import RequestFailed
from domain.job_result import Receipt
from domain.tokens import TokenUsage
from infra.broker import Broker
from infra.direct import DirectDispatch, DirectJobs
from infra.embedded_nats import EmbeddedNats
from infra.incoming import IncomingStream
from infra.jobs import ACK_WAIT_S, STREAM, JobQueue
from infra.replies import MAX_RESENDS, Committed, Failed, ReplyInbox
from infra.reply_frames import FRAME_BYTES
from infra.reply_sender import ReplySender
from tests.support.jobs import make_job
from tests.support.ledger import RealLedger, ask, attempt, completed, cost
from tests.support.waiting import eventually, eventually_so
from workers.delivery import AttemptsInHand, Delivery, DirectDelivery, UnackedDeliveries
from workers.job_pool import Handle, JobPool

RECEIPT = Receipt(
    provider="echo",
    upstream_model="echo",
    usage=TokenUsage(input=1),
    cost_nano_usd=None,
    answered_at=datetime(2026, 1, 1, tzinfo=UTC),
)
BODY = bytes(range(256)) * (2 * FRAME_BYTES // 256) + b"end"
DIGEST = hashlib.sha256(BODY).digest()


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    connected = Broker()
    await connected.connect([nats_url], name="tests")
    yield connected
    await connected.close()


@pytest.fixture
async def sender(broker: Broker) -> AsyncIterator[ReplySender]:
    listening = ReplySender(broker)
    await listening.listen()
    yield listening
    listening.close()


class Api:
    """The parts of an API process that wait for workers' replies."""

    def __init__(self, ledger: RealLedger, broker: Broker) -> None:
        self.inbox = ReplyInbox(broker, "api_1")
        self.queue = JobQueue(broker)
        self.direct = DirectDispatch(broker)
        self.recovery = ReplyRecovery(
            event_log=ledger.log,
            admission=ledger.admission,
            queue=self.queue,
            direct=self.direct,
            inbox=self.inbox,
        )


@pytest.fixture
async def api(ledger: RealLedger, broker: Broker) -> AsyncIterator[Api]:
    opened = Api(ledger, broker)
    await opened.queue.ensure()
    yield opened
    await opened.inbox.close()


async def test_a_body_whose_frames_were_lost_is_sent_again(api: Api, sender: ReplySender) -> None:
    subject = api.inbox.subject("req_1")
    with api.inbox.expect("req_1") as ended:
        await sender.send_body(subject, 1, BODY)  # without a listener, so the frames are lost
        await api.inbox.open()
        await sender.send_commit(subject, 1, DIGEST, RECEIPT)
        assert await asyncio.wait_for(ended, 5) == Committed(1, BODY, RECEIPT)


async def test_lost_body_ends_with_an_error_in_time(api: Api, broker: Broker) -> None:
    await api.inbox.open()
    with api.inbox.expect("req_1") as ended:
        await ReplySender(broker).send_commit(api.inbox.subject("req_1"), 1, DIGEST, RECEIPT)
        assert await asyncio.wait_for(ended, 5 * MAX_RESENDS) == Committed(1, None, RECEIPT)


async def test_parts_that_were_lost_are_sent_again_in_order(api: Api, sender: ReplySender) -> None:
    subject = api.inbox.subject("req_1")
    incoming = IncomingStream(api.inbox.resends("req_1"))
    with api.inbox.collect("req_1", incoming):
        for number in (1, 2, 3):
            await sender.send_part(subject, 1, number, b"%d " % number)
        await api.inbox.open()
        await sender.send_part(subject, 1, 4, b"4 ")
        await sender.send_commit(subject, 1, b"", RECEIPT, parts=4)
        received = b""
        while isinstance(piece := await asyncio.wait_for(incoming.next(), 5), bytes):
            received += piece
    assert received == b"1 2 3 4 "
    assert isinstance(piece, Committed)


async def test_follower_reads_a_missed_ending_from_the_log(api: Api, ledger: RealLedger, sender: ReplySender) -> None:
    project = await ledger.new_project()
    key = await ledger.new_key(project)
    answered, broken, open_one = (attempt(project, key) for _ in range(3))
    await sender.send_body(api.inbox.subject(answered.identity.request_id), 1, BODY)
    await api.inbox.open()
    day = datetime.now(UTC).date()
    end = replace(completed(answered), answer_digest=DIGEST.hex(), answer_bytes=len(BODY))
    await ledger.append(answered, 0, end, cost(answered, 5, hold=5, day=day))
    late = RequestFailed(**broken.identity.event_fields(), code="PROVIDER_TIMEOUT", message="late", latency_ms=1)
    await ledger.append(broken, 0, late)
    inbox = api.inbox
    with (
        inbox.expect(answered.identity.request_id) as first,
        inbox.expect(broken.identity.request_id) as second,
        inbox.expect(open_one.identity.request_id) as third,
    ):
        assert await api.recovery.look() == 0, "the followers have only begun to wait"
        assert await api.recovery.look(is_anew=True) == 3
        one, other = await asyncio.wait_for(asyncio.gather(first, second), 5)
        assert not third.done()
    assert isinstance(one, Committed)
    assert (one.body, one.receipt.cost_nano_usd) == (BODY, 5)
    assert isinstance(other, Failed)
    assert other.failure.code == "PROVIDER_TIMEOUT"


async def test_silent_requests_are_looked_up_without_a_reconnect(api: Api, ledger: RealLedger) -> None:
    project = await ledger.new_project()
    made = attempt(project, await ledger.new_key(project))
    late = RequestFailed(**made.identity.event_fields(), code="PROVIDER_TIMEOUT", message="late", latency_ms=1)
    await ledger.append(made, 0, late)
    await api.inbox.open()
    running = asyncio.create_task(api.recovery.run())
    with api.inbox.expect(made.identity.request_id) as ended:
        assert isinstance(await asyncio.wait_for(ended, 30), Failed)
    running.cancel()


async def test_unconfirmed_job_goes_directly_to_a_worker(api: Api, broker: Broker) -> None:
    taken: list[str] = []
    first_done, done, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        with attempts.making(delivery.message_id, 1):
            taken.append(delivery.message_id)
            await (done if delivery.message_id == "req_1" else first_done).wait()

    attempts = AttemptsInHand(broker, "wrk_1")
    await attempts.listen()
    running = asyncio.create_task(run_worker(broker, handle, stop, slots=2))
    await eventually_so(lambda: api.direct.offer(make_job(request_id="req_0")))
    await eventually_so(lambda: api.direct.offer(make_job(request_id="req_1")))
    assert await api.direct.offer(make_job(request_id="req_1")), "the worker accepted it"
    assert not await api.direct.offer(make_job(request_id="req_2")), "the worker has no free slot"
    assert await api.direct.is_in_hand("req_1")
    assert not await api.direct.is_in_hand("req_2")
    elsewhere = AttemptsInHand(broker, "wrk_2")
    assert await elsewhere.maker_of("req_1", 1, "wrk_1") == "at work"
    assert await elsewhere.maker_of("req_1", 2, "wrk_1") == "gone", "another delivery of the job"
    assert await elsewhere.maker_of("req_1", 1, "wrk_3") == "gone", "nobody listens"
    assert await elsewhere.maker_of("req_1", 1, "gateway worker of:a release before") == "at work"
    first_done.set()
    # a stream without these subjects stands for one without a leader: nothing confirms a publish
    jetstream = broker.client.jetstream()
    await jetstream.update_stream((await jetstream.stream_info(STREAM)).config.evolve(subjects=["nothing"]))
    await asyncio.wait_for(api.queue.publish(make_job(request_id="req_3"), otherwise=api.direct.offer), 10)
    assert taken == ["req_0", "req_1", "req_3"]
    done.set()
    stop.set()
    await running
    assert not await api.direct.is_in_hand("req_1")


async def test_direct_job_is_queued_if_its_worker_dies(api: Api, ledger: RealLedger, broker: Broker) -> None:
    project = await ledger.new_project()
    made = attempt(project, await ledger.new_key(project))
    assert (await ledger.admission.admit(ask(made, hold=5))).outcome == "admitted"
    job = make_job(request_id=made.identity.request_id, reply_to=api.inbox.subject(made.identity.request_id))
    claimed, stop = asyncio.Event(), asyncio.Event()

    async def handle(taken: Delivery) -> None:
        assert await ledger.claims.claim(taken.message_id, 1) is not None
        claimed.set()  # and then its process dies

    worker = asyncio.create_task(run_worker(broker, handle, stop, slots=1))
    watching = asyncio.create_task(api.recovery.run())
    with api.inbox.expect(made.identity.request_id):
        api.inbox.keep_job(job)
        await asyncio.wait_for(claimed.wait(), 30)
        jetstream = broker.client.jetstream()

        async def is_queued() -> bool:
            return (await jetstream.stream_info(STREAM)).state.messages == 1

        await eventually_so(is_queued, within_s=5 * ACK_WAIT_S)
        subscription = await jetstream.pull_subscribe_bind(stream=STREAM, consumer="workers-sync")
        (message,) = await subscription.fetch(1, timeout=5)
        assert b"deliveries_before" in message.data
    await eventually(lambda: api.inbox.job(made.identity.request_id) is None)
    watching.cancel()
    stop.set()
    await worker


async def run_worker(broker: Broker, handle: Handle, stop: asyncio.Event, *, slots: int) -> None:
    """Run a worker's slots for the jobs that are dispatched to it directly."""
    pool = JobPool(broker, UnackedDeliveries(), slots=slots, drain_timeout_s=5)
    direct = DirectJobs(
        broker, take=lambda job: pool.take_direct(DirectDelivery(broker, job), handle), is_in_hand=pool.is_in_hand
    )
    await asyncio.gather(pool.run(stop), direct.run(stop))


async def test_paid_response_is_recorded_while_the_broker_is_away(tmp_path: Path) -> None:
    server, connected_to = EmbeddedNats(tmp_path), Broker()
    await connected_to.connect([server.start()], name="tests")
    sender, inbox = ReplySender(connected_to), ReplyInbox(connected_to, "api_1")
    await sender.listen()
    await inbox.open()
    server.stop()
    await eventually(lambda: not connected_to.is_connected)
    for number in range(200):  # more than the client buffers while it is disconnected
        await sender.send_body(inbox.subject(f"req_{number}"), 1, bytes(900_000))
    server.launch()
    await eventually(lambda: connected_to.is_connected, within_s=30)
    digest = hashlib.sha256(bytes(900_000)).digest()
    with inbox.expect("req_199") as ended:
        await sender.send_commit(inbox.subject("req_199"), 1, digest, RECEIPT)
        answer = await asyncio.wait_for(ended, 30)
    assert isinstance(answer, Committed)
    assert answer.body == bytes(900_000)
    await inbox.close()
    await connected_to.close()
    server.stop()


async def test_a_look_up_that_fails_does_not_end_the_others(api: Api, ledger: RealLedger) -> None:
    project = await ledger.new_project()
    unreadable = attempt(project, await ledger.new_key(project))
    made = attempt(project, await ledger.new_key(project))
    for one in (unreadable, made):
        failed = RequestFailed(**one.identity.event_fields(), code="PROVIDER_TIMEOUT", message="late", latency_ms=1)
        await ledger.append(one, 0, failed)
    async with ledger.owner.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE events DISABLE TRIGGER USER")  # it refuses changes
        await connection.execute(
            "UPDATE events SET data = '{}' WHERE stream = $1", f"request-{unreadable.identity.request_id}"
        )
    await api.inbox.open()
    with api.inbox.expect(unreadable.identity.request_id) as never, api.inbox.expect(made.identity.request_id) as ended:
        assert await api.recovery.look(is_anew=True) == 2
        assert isinstance(await asyncio.wait_for(ended, 5), Failed)
        assert not never.done()
