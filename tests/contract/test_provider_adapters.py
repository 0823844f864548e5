"""The contract of the provider adapters: `echo`, and the vendors' adapters over real HTTP to the test provider.

Every provider in `workers/providers/registry.py` is tested.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from domain.canonical.chat import ChatRequest, ChatResponse, UserMessage
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.codec import ProviderResponse
from domain.dialects.native.codec import NativeChat
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.registry import PROVIDER_KINDS
from domain.dialects.translation import Translated
from domain.errors import (
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.routing import ANTHROPIC, ECHO, OPENAI
from infra.outbound import AddressRefused
from tests.provider.running import RecordedRequest, RunningProvider
from tests.support.jobs import make_identity
from workers.calls import read_response
from workers.providers import anthropic as anthropic_adapter
from workers.providers import openai as openai_adapter
from workers.providers.http import Sessions
from workers.providers.provider import Credential, Provider, ProviderCall
from workers.providers.registry import PROVIDERS

MODELS = {OPENAI: "gpt-4o-mini", ANTHROPIC: "claude-3-haiku-20240307", ECHO: "echo"}
CODECS = {OPENAI: OpenAiChat(), ANTHROPIC: AnthropicMessages(), ECHO: OpenAiChat()}
REMOTE = sorted(set(PROVIDERS) - {ECHO})


def render(kind: str, prompt: str, *, is_stream: bool = False) -> bytes:
    request = ChatRequest(messages=[UserMessage(content=prompt)])
    return CODECS[kind].render_request(request, "m", is_stream=is_stream)


@pytest.fixture(params=sorted(PROVIDERS))
async def call_adapter(request: pytest.FixtureRequest, provider: RunningProvider) -> AsyncIterator["CallableAdapter"]:
    """Return an adapter of each kind, connected to the test provider."""
    sessions = Sessions(allow_loopback=True, max_connections=8)
    yield CallableAdapter(request.param, PROVIDERS[request.param](sessions), provider)
    await sessions.close()


class CallableAdapter:
    """An adapter that a test calls with a prompt."""

    def __init__(self, name: str, adapter: Provider, provider: RunningProvider) -> None:
        self.name = name
        self.adapter = adapter
        self.addresses = {OPENAI: provider.openai_base_url, ANTHROPIC: provider.anthropic_base_url}

    async def __call__(
        self, prompt: str, *, timeout_s: float = 10, key: str | None = "sk-canary", address: str | None = None
    ) -> ProviderResponse:
        codec = CODECS[self.name]
        call = ProviderCall(
            identity=make_identity(provider=self.name, upstream_model=MODELS[self.name]),
            path=codec.path,
            credential=Credential(key, address or self.addresses.get(self.name)) if key else None,
            timeout_s=timeout_s,
        )
        request = ChatRequest(messages=[UserMessage(content=prompt)], model=MODELS[self.name])
        body = await self.adapter.send(codec.render_request(request, MODELS[self.name], is_stream=False), call)
        return await read_response(Translated(NativeChat(), codec), body, call.identity)


def test_every_listed_provider_is_tested() -> None:
    assert set(MODELS) == set(PROVIDERS) == set(PROVIDER_KINDS)


async def test_an_answer_has_a_text_an_end_and_its_tokens(
    call_adapter: CallableAdapter, provider: RunningProvider
) -> None:
    found = await call_adapter("hello [[tokens=70/30]] [[cached=20]]")
    (choice,) = msgspec.json.decode(found.body, type=ChatResponse).choices
    assert choice.message.content
    assert (choice.finish_reason, found.finish_reason) == ("stop", "stop")
    assert found.response_id
    if call_adapter.name in REMOTE:
        (billed,) = provider.bill()
        assert found.answered_by.startswith(billed["model"])
        assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (70, 30)
        assert found.usage.cached_prompt_tokens == 20
    assert found.usage.total_tokens > 0


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("[[status=400]]", ProviderRejected),
        ("[[status=404]]", ProviderRejected),
        ("[[status=422]]", ProviderRejected),
        ("[[status=403]]", ProviderCredentials),
        ("[[status=408]]", ProviderTimeout),
        ("[[status=429]] [[after=7]]", ProviderRateLimited),
        ("[[status=500]]", ProviderUnavailable),
        ("[[status=529]]", ProviderUnavailable),
        ("[[reset]]", ProviderLost),
        ("[[garbage]]", ProviderLost),
        ("[[delay=3000]]", ProviderTimeout),
    ],
)
@pytest.mark.parametrize("call_adapter", REMOTE, indirect=True)
async def test_each_failure_has_its_error(
    call_adapter: CallableAdapter, prompt: str, error: type[ProviderError]
) -> None:
    with pytest.raises(error) as raised:
        await call_adapter(prompt, timeout_s=0.5 if "delay" in prompt else 10)
    assert type(raised.value) is error
    assert raised.value.provider == call_adapter.name
    assert "canary" not in str(raised.value)
    if error is ProviderRateLimited:
        assert raised.value.retry_after_s == 7


@pytest.mark.parametrize("call_adapter", REMOTE, indirect=True)
async def test_unsent_request_is_not_charged(call_adapter: CallableAdapter) -> None:
    with pytest.raises(ProviderUnavailable) as raised:
        await call_adapter("hello", address="http://127.0.0.1:9")
    assert raised.value.outcome_known


@pytest.mark.parametrize("call_adapter", REMOTE, indirect=True)
async def test_a_provider_without_a_key_is_not_called(call_adapter: CallableAdapter, provider: RunningProvider) -> None:
    with pytest.raises(ProviderCredentials):
        await call_adapter("hello", key=None)
    assert provider.calls == 0


@pytest.mark.parametrize("call_adapter", REMOTE, indirect=True)
async def test_each_call_carries_its_own_credential(call_adapter: CallableAdapter) -> None:
    good, bad, again = await asyncio.gather(
        call_adapter("one", key="sk-good"),
        call_adapter("two", key="sk-wrong-canary"),
        call_adapter("three", key="sk-good"),
        return_exceptions=True,
    )
    assert isinstance(good, ProviderResponse)
    assert isinstance(bad, ProviderCredentials)
    assert "canary" not in str(bad)
    assert isinstance(again, ProviderResponse)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("allow_loopback", [False, True])
async def test_callers_address_must_be_public(provider: RunningProvider, host: str, allow_loopback: bool) -> None:
    sessions = Sessions(allow_loopback=allow_loopback, max_connections=8)
    address = provider.openai_base_url.replace("127.0.0.1", host)
    call = ProviderCall(
        identity=make_identity(provider="named", upstream_model="m"),
        path="/chat/completions",
        credential=Credential("sk-canary", address, is_callers=True),
        timeout_s=10,
    )
    asking = PROVIDERS[OPENAI](sessions).send(render(OPENAI, "x"), call)
    if allow_loopback:
        assert OpenAiChat().meter_response(await asking).usage.total_tokens > 0
    else:
        with pytest.raises(ProviderUnavailable, match=r"named cannot be reached: .*LOOPBACK"):
            await asking
    assert provider.calls == int(allow_loopback)
    await sessions.close()


async def test_private_network_name_is_not_called() -> None:
    sessions = Sessions(allow_loopback=False, max_connections=8)
    with pytest.raises(aiohttp.ClientConnectorError) as refused:
        await sessions.callers.post("https://localhost:9/v1")
    assert isinstance(refused.value.os_error, AddressRefused)
    await sessions.close()


async def test_late_reader_gets_the_parts_before_the_break(provider: RunningProvider) -> None:
    sessions = Sessions(allow_loopback=True, max_connections=8)
    credential = Credential("sk-canary", provider.openai_base_url)
    call = ProviderCall(
        identity=make_identity(provider="openai", upstream_model="m"),
        path="/chat/completions",
        credential=credential,
        timeout_s=10,
    )
    content = render(OPENAI, "[[cut=5]]", is_stream=True)
    read: list[bytes] = []

    async def read_late() -> None:
        async with PROVIDERS[OPENAI](sessions).stream(content, call) as batches:
            await asyncio.sleep(0.2)  # the break comes after the bytes; nothing here shows when
            async for batch in batches:
                read.extend(event.data for event in batch)

    with pytest.raises(ProviderLost):
        await read_late()
    await sessions.close()
    assert len(read) == 6


def set_operators_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, "canary-of-the-environment")
    headers = ("x-proxy-token", "authorization", "x-api-key", "user-agent", "anthropic-version", "accept", "Accept")
    for name in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "\n".join(f"{header}: canary-of-the-environment" for header in headers))


async def told_by(provider: RunningProvider, *, is_callers: bool, is_own: bool) -> list[RecordedRequest]:
    """Call the provider as each vendor's; return what it received."""
    sessions = Sessions(allow_loopback=True, max_connections=8)
    for kind, address in ((OPENAI, provider.openai_base_url), (ANTHROPIC, provider.anthropic_base_url)):
        call = ProviderCall(
            identity=make_identity(provider="named", upstream_model="m"),
            path=CODECS[kind].path,
            credential=Credential("sk-callers", address, is_callers=is_callers, is_own=is_own),
            timeout_s=10,
        )
        await PROVIDERS[kind](sessions).send(render(kind, "x"), call)
    await sessions.close()
    return provider.requests(last=2)


@pytest.mark.parametrize("is_own", [True, False])
async def test_callers_address_gets_nothing_of_the_environment(
    provider: RunningProvider, monkeypatch: pytest.MonkeyPatch, is_own: bool
) -> None:
    set_operators_headers(monkeypatch)
    told = await told_by(provider, is_callers=True, is_own=is_own)
    assert {request.header("authorization") for request in told} == {"Bearer sk-callers"}
    assert "canary" not in str([request.headers for request in told])
    assert told[1].header("anthropic-version") is not None


async def test_a_projects_key_takes_the_place_of_the_operators_credential(
    provider: RunningProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_operators_headers(monkeypatch)
    told = await told_by(provider, is_callers=False, is_own=True)
    for request in told:
        sent = [value for name, value in request.headers if name.lower() == "authorization"]
        assert sent == ["Bearer sk-callers"]
        assert request.header("x-proxy-token") == "canary-of-the-environment"
    assert told[0].header("openai-organization") is None
    assert told[0].header("openai-project") is None


async def test_the_installations_key_goes_with_the_operators_headers(
    provider: RunningProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-proxy-token: for the proxy")
    openai, anthropic = await told_by(provider, is_callers=False, is_own=False)
    assert openai.header("openai-organization") == "org-1"
    assert anthropic.header("x-proxy-token") == "for the proxy"


@pytest.mark.parametrize("environment", [{}, {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "project-1"}])
async def test_vendors_are_told_what_their_sdks_tell_them(
    provider: RunningProvider, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "x-proxy-token: a: b \nno header\nX-Other:c")
    ours = await told_by(provider, is_callers=False, is_own=False)
    message: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    async with AsyncOpenAI(api_key="sk-callers", base_url=provider.openai_base_url) as openai:
        await openai.chat.completions.create(**message)
    async with AsyncAnthropic(api_key="sk-callers", base_url=provider.anthropic_base_url) as anthropic:
        await anthropic.messages.create(**message, max_tokens=9)
    theirs = provider.requests(last=2)

    def said(request: RecordedRequest) -> dict[str, str]:
        """Return the headers that say something to the vendor: not those that say which program asks, and how."""
        own = ("x-stainless-", "user-agent", "accept-encoding", "connection", "content-length", "host", "content-type")
        return {name.lower(): value for name, value in request.headers if not name.lower().startswith(own)}

    for our, their in zip(ours, theirs, strict=True):
        assert said(our) == said(their)
        assert our.path == their.path


async def test_vendors_are_where_their_sdks_find_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    clients = AsyncOpenAI(api_key="k"), AsyncAnthropic(api_key="k")
    assert [str(client.base_url).rstrip("/") for client in clients] == [
        openai_adapter.BASE_URL,
        anthropic_adapter.BASE_URL,
    ]
