"""What takes long to work on is worked on in a thread: large bodies, and those that are planned at many targets."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
import pytest
from litestar.datastructures import State
from msgspec.structs import replace

from api.inference import InferenceService
from api.large_requests import LARGE_BYTES, LargeRequests
from api.missing_calls import MissingCalls
from api.native.validation import decode_large
from api.request_context import CachePolicy, Failover, InferenceRequest
from api.request_lifetime import BYTES_SCOPE
from api.requests import CountedRequest, services_of
from api.services import Services
from api.vendors.reading import read_request
from domain.canonical.chat import ChatRequest
from domain.dialects.registry import DIALECTS
from domain.dialects.request_body import CanonicalRequest
from domain.errors import InvalidRequest
from domain.routing import Target
from infra.byte_budget import ByteBudget, BytesInHand
from tests.fuzz.planning import CALLER, surface

SMALL_BYTES = LARGE_BYTES // 2


class Body(msgspec.Struct):
    """A body that knows in which thread it was made."""

    text: str
    made_in: ClassVar[list[int]] = []

    def __post_init__(self) -> None:
        self.made_in.append(threading.get_ident())


@dataclass(frozen=True)
class Field:
    annotation: type = Body


@dataclass(frozen=True)
class Handler:
    parsed_data_field: Field = Field()


@dataclass(frozen=True)
class App:
    state: State


class Planner:
    """Plans nothing; knows in which thread it was asked to."""

    def __init__(self) -> None:
        self.thread = 0

    def plan(self, *_: Any, **__: Any) -> None:
        self.thread = threading.get_ident()
        raise InvalidRequest("seen")


class SizesSeen(LargeRequests):
    """Remembers of how many bytes it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def run(
        self, project_id: str, size_bytes: int, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        self.sizes.append(size_bytes)
        return await super().run(project_id, size_bytes, function, *args, **kwargs)


def request_with(body: bytes, **parts: Any) -> CountedRequest:
    """Return a request to a process that has these parts alone."""
    some: dict[str, Any] = {field.name: None for field in fields(Services)} | parts
    scope: Any = {
        "type": "http",
        "path": "/",
        "query_string": b"",
        "headers": [],
        "litestar_app": App(State({"services": Services(**some)})),
        BYTES_SCOPE: BytesInHand(ByteBudget(1 << 30), "prj"),
    }
    receive: Any = None
    return CountedRequest.of_job(scope, receive, body)


@pytest.mark.parametrize(("size_bytes", "is_in_a_thread"), [(SMALL_BYTES, False), (LARGE_BYTES, True)])
async def test_a_large_body_is_decoded_in_a_thread(size_bytes: int, is_in_a_thread: bool) -> None:
    body = msgspec.json.encode({"text": "x" * size_bytes})
    request, handler = request_with(body, large_requests=LargeRequests()), Handler()
    Body.made_in.clear()
    untyped: Any = handler
    await decode_large(request, untyped, body)
    assert [thread != threading.get_ident() for thread in Body.made_in] == [True] * is_in_a_thread


@pytest.mark.parametrize(("targets", "is_in_a_thread"), [(1, False), (2, True)])
async def test_a_request_is_planned_in_a_thread_if_its_targets_make_it_large(
    targets: int, is_in_a_thread: bool
) -> None:
    planner, target = Planner(), Target(model="echo", provider="echo", kind="echo", upstream_model="echo")
    one = InferenceRequest(
        request_id="req",
        operation="chat",
        body=CanonicalRequest(ChatRequest(model="echo", messages=[])),
        target=target,
        size_bytes=SMALL_BYTES,
        cache=CachePolicy(mode="off", ttl_s=60),
        metadata=None,
        received_at=datetime.now(UTC),
        in_hand=BytesInHand(ByteBudget(1 << 30), "prj"),
    )
    failover = Failover(further=(one,) * (targets - 1), dropped=(), fail_over_on=(), attempts=1)
    others = ("authenticator", "objects", "cache", "admission", "refusals", "dispatcher", "recorder", "replays")
    parts: dict[str, Any] = dict.fromkeys(others)
    now: Any = datetime.now
    untyped: Any = {**parts, "planner": planner, "large_requests": LargeRequests(), "event_log": None, "now": now}
    receive: Any = None
    with pytest.raises(InvalidRequest, match="seen"):
        await InferenceService(**untyped).infer(CALLER, replace(one, failover=failover), receive)
    assert (planner.thread != threading.get_ident()) == is_in_a_thread


async def test_a_vendors_request_counts_as_large_as_it_is_at_all_its_targets() -> None:
    body = msgspec.json.encode(
        {"model": "gpt-4o", "fallbacks": ["claude-3-haiku", "echo"], "messages": [{"role": "user", "content": "hi"}]}
    )
    called, large_requests = surface("openai", "chat"), SizesSeen()
    some: Any = None
    request = request_with(
        body,
        large_requests=large_requests,
        planner=called.planner,
        dialects=DIALECTS,
        missing_calls=MissingCalls(some),
    )
    reads = await read_request(services_of(request), request, CALLER, body, called.codec, is_cached=False)
    assert len(reads.each) == 3
    assert large_requests.sizes == [len(body), 3 * len(body)]
