"""A provider that refuses to be asked for a stream's usage, which the gateway asks for, is called again without."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from domain.dialects.registry import DIALECTS
from domain.dialects.sse import SseEvent
from domain.errors import ProviderRejected
from domain.failover import CallLimits
from infra.jobs import Job, StreamFormat
from tests.support.jobs import make_job
from workers.calls import PreparedCall, ProviderCalls
from workers.providers.provider import ProviderCall

CANONICAL = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
OWN = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
REFUSAL = "Unrecognized request argument supplied: stream_options"


class Refusing:
    """A provider that refuses `stream_options`, or any request."""

    def __init__(self, *, refuses_all: bool = False, message: str = REFUSAL) -> None:
        self.bodies: list[dict[str, object]] = []
        self._refuses_all = refuses_all
        self._message = message

    async def send(self, *_: object) -> bytes:
        raise AssertionError("a stream was asked for")

    @asynccontextmanager
    async def stream(self, content: bytes, _: ProviderCall) -> AsyncIterator[AsyncIterator[list[SseEvent]]]:
        body = msgspec.json.decode(content)
        self.bodies.append(body)
        if self._refuses_all or "stream_options" in body:
            raise ProviderRejected(self._message, provider="openai", status=400)
        yield _nothing()


async def _nothing() -> AsyncIterator[list[SseEvent]]:
    yield [SseEvent("", b"[DONE]", b"data: [DONE]\n\n")]


class NoKeys:
    async def accesses(self, *_: str) -> tuple[()]:
        return ()


def calls_of(provider: Refusing) -> ProviderCalls:
    keys: object = NoKeys()
    return ProviderCalls(
        providers={"openai": provider},
        dialects=DIALECTS,
        keys=keys,  # type: ignore[arg-type]
        base_urls={},
        blobs=None,  # type: ignore[arg-type]
    )


def job(body: bytes = CANONICAL, *, is_passthrough: bool = False, with_usage: bool = True) -> Job:
    return make_job(
        model="m",
        provider="openai",
        kind="openai",
        upstream_model="m",
        body=body,
        is_passthrough=is_passthrough,
        stream=StreamFormat(surface="openai", with_usage=with_usage),
    )


async def streamed(calls: ProviderCalls, prepared: PreparedCall) -> None:
    told: list[str] = []
    async with calls.stream(prepared, CallLimits(total_s=1), lambda: told.append("first")) as events:
        assert [event.data for batch in [one async for one in events] for event in batch] == [b"[DONE]"]
    assert told == ["first"]


async def test_the_second_call_is_made_without_and_so_is_every_later_one() -> None:
    provider = Refusing()
    calls = calls_of(provider)
    for _ in range(2):
        await streamed(calls, await calls.prepare(job()))
    assert ["stream_options" in body for body in provider.bodies] == [True, False, False]
    assert all(body["stream"] for body in provider.bodies)


async def test_a_passed_through_request_of_a_client_that_did_not_ask_is_sent_without_as_well() -> None:
    provider = Refusing()
    calls = calls_of(provider)
    await streamed(calls, await calls.prepare(job(OWN, is_passthrough=True, with_usage=False)))
    assert ["stream_options" in body for body in provider.bodies] == [True, False]


@pytest.mark.parametrize(
    ("provider", "given"),
    [
        pytest.param(Refusing(), job(OWN, is_passthrough=True), id="the client asked for it"),
        pytest.param(Refusing(message="no such model"), job(), id="it is about something else"),
    ],
)
async def test_another_refusal_is_its_callers(provider: Refusing, given: Job) -> None:
    calls = calls_of(provider)
    with pytest.raises(ProviderRejected):
        await streamed(calls, await calls.prepare(given))
    assert len(provider.bodies) == 1


async def test_a_refusal_of_both_is_not_remembered() -> None:
    provider = Refusing(refuses_all=True)
    calls = calls_of(provider)
    for _ in range(2):
        with pytest.raises(ProviderRejected):
            await streamed(calls, await calls.prepare(job()))
    assert ["stream_options" in body for body in provider.bodies] == [True, False] * 2
