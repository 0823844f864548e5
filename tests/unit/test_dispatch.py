"""What one tenant has in flight at a provider neither sends another's requests to the lane `bulk` nor refuses them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from api.authentication import Caller
from api.client_disconnect import ClientDisconnect
from api.dispatch import MODEST_PER_PROVIDER, SYNC_PER_KEY, SYNC_PER_PROVIDER, Dispatcher
from api.request_context import CachePolicy, InferenceRequest, RequestContext
from api.request_planner import RequestPlanner
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS
from domain.errors import Overloaded
from domain.events import KeySettings
from domain.routing import NamedProvider
from infra.byte_budget import ByteBudget, BytesInHand
from infra.jobs import Job, Lane
from infra.price_book import PriceBook

PLANNER = RequestPlanner(prices=PriceBook(), dialects=DIALECTS, upstream_models={}, request_timeout_s=60)
SHARED, OWN = "gpt-4o", "mine/m"
MAX_IN_FLIGHT = 1_000


def request(project: str, model: str = SHARED, key: str = "key") -> RequestContext:
    """One of a project that has a provider `mine` of its own, as every other one has."""
    caller = Caller(
        key_id=f"{project} {key}",
        key_version=1,
        secret_hash=b"",
        project_id=project,
        project_name=project,
        is_limited=False,
        settings=KeySettings(name="a key"),
        providers=(NamedProvider(name="mine", kind="openai", base_url="https://provider.example"),),
        cancel_on_disconnect=False,
        own_credentials=frozenset({"mine"}),
    )
    target = PLANNER.target(caller, model)
    client = OpenAiChat()
    content = b'{"model": "%s", "messages": [{"role": "user", "content": "hello"}]}' % model.encode()
    parsed = DIALECTS.choose(client, target.kind).parse_request(read_passthrough(content, client))
    asked = InferenceRequest(
        request_id="req_1",
        operation="chat",
        body=parsed.body,
        target=target,
        size_bytes=len(content),
        cache=CachePolicy(mode="off", ttl_s=60),
        metadata=None,
        received_at=datetime.now(UTC),
        in_hand=BytesInHand(ByteBudget(1_000_000), project),
    )
    return PLANNER.plan(caller, asked, ClientDisconnect(), is_counted=True)


class Unanswered:
    """A queue and an inbox: no request is ever answered."""

    def __init__(self) -> None:
        self.published = 0
        self._lanes: asyncio.Queue[Lane] = asyncio.Queue()
        self._calls: list[asyncio.Task[Any]] = []
        parts: Any = self
        self.dispatcher = Dispatcher(
            admission=parts,
            recorder=parts,
            queue=parts,
            direct=parts,
            inbox=parts,
            blobs=parts,
            cache=parts,
            prompts=parts,
            now=lambda: datetime.now(UTC),
            max_in_flight=MAX_IN_FLIGHT,
        )

    @contextmanager
    def expect(self, *_: Any) -> Iterator[asyncio.Future[Any]]:
        yield asyncio.get_running_loop().create_future()

    def subject(self, request_id: str) -> str:
        return request_id

    def keep_job(self, job: Job) -> None:
        pass

    async def offer(self, _job: Job) -> bool:
        return False

    async def publish(self, _job: Job, lane: Lane, **_: Any) -> None:
        self.published += 1
        self._lanes.put_nowait(lane)

    async def call(self, ctx: RequestContext, count: int = 1) -> list[Lane]:
        """Make calls, one after the other, that go on. Return their lanes."""
        for _ in range(count):
            self._calls.append(asyncio.create_task(self.dispatcher.call(ctx)))
        return [await self._lanes.get() for _ in range(count)]

    async def fill(self, ctx: RequestContext) -> int:
        """Send requests that go on until one more would be refused. Return how many there are."""
        for count in range(MAX_IN_FLIGHT + 1):
            try:
                self.dispatcher.check_room(ctx)
            except Overloaded:
                return count
            await self.call(ctx)
        raise AssertionError("more than may be in flight")

    async def end(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


@pytest.fixture
async def unanswered() -> AsyncIterator[Unanswered]:
    one = Unanswered()
    yield one
    await one.end()


@pytest.mark.parametrize("model", [SHARED, OWN])
async def test_a_quiet_tenants_request_does_not_queue_behind_a_flood_at_the_same_provider(
    unanswered: Unanswered, model: str
) -> None:
    flood = await unanswered.call(request("flood", model), 2 * SYNC_PER_PROVIDER)
    assert flood.count("sync") == SYNC_PER_KEY
    assert await unanswered.call(request("quiet", model), SYNC_PER_KEY) == ["sync"] * SYNC_PER_KEY


async def test_many_tenants_of_a_slow_provider_leave_the_lane_to_others_and_to_those_with_few(
    unanswered: Unanswered,
) -> None:
    for number in range(SYNC_PER_PROVIDER // SYNC_PER_KEY):
        await unanswered.call(request(f"tenant {number}"), SYNC_PER_KEY)
    lanes = await unanswered.call(request("one more"), SYNC_PER_KEY)
    assert lanes == ["sync"] * MODEST_PER_PROVIDER + ["bulk"] * (SYNC_PER_KEY - MODEST_PER_PROVIDER)
    assert await unanswered.call(request("one more", "claude-3-opus", "another")) == ["sync"]


async def test_a_full_provider_refuses_no_tenant_with_few_in_flight(unanswered: Unanswered) -> None:
    assert await unanswered.fill(request("flood")) == MAX_IN_FLIGHT // 2
    assert await unanswered.fill(request("quiet")) > MAX_IN_FLIGHT // 20


async def test_a_providers_share_is_that_of_its_owner(unanswered: Unanswered) -> None:
    assert await unanswered.fill(request("flood", OWN)) == MAX_IN_FLIGHT // 2
    assert await unanswered.fill(request("quiet", OWN)) == MAX_IN_FLIGHT // 4


async def test_a_project_fills_no_process_by_way_of_several_providers(unanswered: Unanswered) -> None:
    for model in (SHARED, OWN, "claude-3-opus", "echo"):
        await unanswered.fill(request("flood", model))
    assert MAX_IN_FLIGHT // 9 <= MAX_IN_FLIGHT - unanswered.published <= MAX_IN_FLIGHT // 8
    unanswered.dispatcher.check_room(request("quiet"))
