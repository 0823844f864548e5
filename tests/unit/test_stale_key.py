"""A request whose key changes while it is admitted is planned again, and served only if its provider reads its form."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from litestar.types import Message

from api.admission_controller import StaleKey
from api.authentication import Caller
from api.inference import InferenceService
from api.large_requests import LargeRequests
from api.request_context import CachePolicy, InferenceRequest, RequestContext
from api.request_planner import RequestPlanner
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.codec import Codec
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS
from domain.errors import Overloaded, Unavailable
from domain.events import KeySettings
from domain.routing import NamedKind, NamedProvider
from infra.byte_budget import ByteBudget, BytesInHand
from infra.price_book import PriceBook

MODEL = "mine/m"


def caller(kind: NamedKind) -> Caller:
    return Caller(
        key_id="key_1",
        key_version=1,
        secret_hash=b"",
        project_id="prj_1",
        project_name="a project",
        is_limited=True,
        settings=KeySettings(name="a key"),
        providers=(NamedProvider(name="mine", kind=kind, base_url="https://provider.example"),),
        cancel_on_disconnect=False,
        own_credentials=frozenset({"mine"}),
    )


class Changing:
    """All that the service works with, for a key that changes at the first decision; the second ends the request."""

    def __init__(self, to: NamedKind) -> None:
        self._to = to
        self.decided: list[RequestContext] = []

    async def reload(self, _caller: Caller) -> Caller:
        return caller(self._to)

    async def check(self, *_: Any) -> bool:
        return False

    def check_room(self, _ctx: RequestContext) -> None:
        return None

    def get_local(self, _ctx: RequestContext) -> None:
        return None

    async def decide(self, ctx: RequestContext, _served: None) -> None:
        self.decided.append(ctx)
        if len(self.decided) < 2:
            raise StaleKey(is_counted=True)
        raise Overloaded("enough was seen")


async def _never() -> Message:  # type: ignore[return]
    await asyncio.Event().wait()


async def infer(changing: Changing, client: Codec, body: dict[str, Any]) -> None:
    """A request of `client` while its provider is of OpenAI's kind."""
    parts: Any = changing
    before = caller("openai")
    planner = RequestPlanner(prices=PriceBook(), dialects=DIALECTS, upstream_models={}, request_timeout_s=60)
    service = InferenceService(
        authenticator=parts,
        planner=planner,
        large_requests=LargeRequests(),
        objects=parts,
        cache=parts,
        admission=parts,
        refusals=parts,
        dispatcher=parts,
        recorder=parts,
        replays=parts,
        event_log=parts,
        now=lambda: datetime.now(UTC),
    )
    content = msgspec.json.encode({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]} | body)
    target = planner.target(before, MODEL)
    parsed = DIALECTS.choose(client, target.kind).parse_request(read_passthrough(content, client))
    request = InferenceRequest(
        request_id="req_1",
        operation="chat",
        body=parsed.body,
        target=target,
        size_bytes=len(content),
        cache=CachePolicy(mode="off", ttl_s=60),
        metadata=None,
        received_at=datetime.now(UTC),
        in_hand=BytesInHand(ByteBudget(1_000_000), "prj_1"),
    )
    await service.infer(before, request, _never)


async def test_a_passed_through_request_never_goes_to_the_other_dialect() -> None:
    changing = Changing("anthropic")
    with pytest.raises(Unavailable, match="try again"):
        await infer(changing, OpenAiChat(), {})
    assert [ctx.target.kind for ctx in changing.decided] == ["openai"]


@pytest.mark.parametrize(
    ("client", "body", "to"),
    [
        pytest.param(OpenAiChat(), {}, "openai", id="passed through, to the same kind"),
        pytest.param(AnthropicMessages(), {"max_tokens": 9}, "anthropic", id="translated, to any kind"),
    ],
)
async def test_any_other_request_is_planned_again(client: Codec, body: dict[str, Any], to: NamedKind) -> None:
    changing = Changing(to)
    with pytest.raises(Overloaded):
        await infer(changing, client, body)
    assert [ctx.target.kind for ctx in changing.decided] == ["openai", to]
    assert [ctx.is_counted for ctx in changing.decided] == [False, True]
