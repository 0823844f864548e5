"""The steps of docs/how-to/add-a-provider.md with a toy provider: a dialect, its kind, its adapter.

Nothing is patched: the registry with the toy is another value beside the gateway's own.
"""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from aiohttp import web
from msgspec import Struct

import api.process
import workers.process
from api.accounts import Accounts
from domain.canonical.chat import AnswerMessage, ChatRequest, ChatResponse, Choice, FinishReason
from domain.canonical.embeddings import EmbeddingsRequest
from domain.canonical.stream import ChatChunk, ChunkChoice, Delta
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.codec import AdaptedRequest, Codec, ProviderResponse, RenderOptions, StreamReader, StreamSummary
from domain.dialects.decode import decode_provider_json
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS, ProviderKind
from domain.dialects.sse import SseEvent
from domain.errors import InvalidRequest
from domain.estimate import utf8_length
from domain.extras import NO_EXTRAS
from domain.failover import CallLimits
from domain.routing import Target
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage, answer_usage
from infra.database import HeldConnection, open_pool
from infra.event_log import EventLog
from infra.jobs import Job, StreamFormat
from infra.provider_keys import Access
from infra.settings import Settings, load_settings
from infra.vault import Vault
from tests.support.jobs import make_job
from tests.support.sdk_streams import anthropic_client, openai_client
from workers.calls import ProviderCalls
from workers.large_answers import LargeAnswers
from workers.providers.http import Endpoint, HttpProvider, Sessions
from workers.providers.provider import Credential
from workers.streaming import attempt_result, open_relay

MODEL = "toy/parrot"
TARGET = Target(model=MODEL, provider="toy", kind="toy", upstream_model="parrot")
SAID = ["Polly ", "wants ", "a ", "cracker."]
USAGE = TokenUsage(input=3, output=4)


class Reply(Struct, frozen=True):
    """A response of the toy, or the last event of its stream."""

    ref: str
    words: tuple[int, int]
    """The input and output tokens."""
    said: str = ""


class Event(Struct, frozen=True):
    """An event of the toy's stream."""

    say: str = ""
    over: Reply | None = None


class ToyReader:
    """A `StreamReader` of the toy's events."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self.usage: TokenUsage | None = None
        self.input_usage: TokenUsage | None = None
        self.answered_by = "parrot"
        self.response_id = ""
        self.finish_reason: FinishReason | None = None
        self.is_ended = False
        self.is_tail = False
        self.received_output_bytes = 0
        self.extras = NO_EXTRAS
        self.writing_run: int | None = None
        self.item_ids: tuple[str, ...] = ()

    def take(self, event: SseEvent) -> list[ChatChunk]:
        read = decode_provider_json(msgspec.json.Decoder(Event).decode, event.data)
        self.received_output_bytes += utf8_length(read.say)
        if read.over is not None:
            self.response_id = sanitize_identifier(read.over.ref)
            self.usage = _usage(read.over)
            self.finish_reason, self.is_ended, self.is_tail = "stop", True, True
        if self._model is None:
            return []
        delta = Delta(content=read.say) if read.say else Delta()
        choice = ChunkChoice(index=0, delta=delta, finish_reason=self.finish_reason)
        return [ChatChunk(id=self.response_id, model=self._model, choices=[choice])]


class ToyChat(Codec):
    """`POST /speak`."""

    dialect = "toy"
    operation = "chat"
    path = "/speak"
    known_fields = frozenset({"model", "lines", "stream"})

    def adapt_request(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str) -> AdaptedRequest:
        assert isinstance(request, ChatRequest)
        if request.tools:
            raise InvalidRequest(f"`tools` cannot be sent to {upstream_model}: parrots use none", field="tools")
        return AdaptedRequest(request=request)

    def render_request(
        self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_stream: bool
    ) -> bytes:
        assert isinstance(request, ChatRequest)
        lines = [f"{message.__struct_config__.tag}: {message.content}" for message in request.messages]
        return msgspec.json.encode({"model": upstream_model, "lines": lines, "stream": is_stream})

    def parse_response(self, body: bytes, *, model: str, provider: str) -> ProviderResponse:
        reply = decode_provider_json(msgspec.json.Decoder(Reply).decode, body)
        response = ChatResponse(
            id=reply.ref,
            model=model,
            provider=provider,
            choices=[Choice(index=0, message=AnswerMessage(content=reply.said), finish_reason="stop")],
            usage=answer_usage(_usage(reply)),
        )
        return ProviderResponse(
            body=msgspec.json.encode(response),
            usage=_usage(reply),
            answered_by="parrot",
            response_id=sanitize_identifier(reply.ref),
            finish_reason="stop",
        )

    def stream_reader(self, *, model: str | None = None) -> StreamReader:
        return ToyReader(model)


def _usage(reply: Reply) -> TokenUsage:
    read, said = reply.words
    return TokenUsage(input=read, output=said)


TOY_DIALECTS = DIALECTS.with_dialect([ToyChat()], {"toy": ProviderKind(dialect="toy")})


def _toy_endpoint(credential: Credential) -> Endpoint:
    return Endpoint(credential.base_url or "", {"x-cage-key": credential.api_key})


@asynccontextmanager
async def toy_server(requests: list[tuple[dict[str, Any], str | None]]) -> AsyncIterator[str]:
    """Run the toy over HTTP. Yield its address."""

    async def speak(request: web.Request) -> web.Response:
        body = await request.json()
        requests.append((body, request.headers.get("x-cage-key")))
        over = Reply(ref="t-1", words=(3, 4))
        if not body["stream"]:
            return web.Response(body=msgspec.json.encode(msgspec.structs.replace(over, said="".join(SAID))))
        events = [*(Event(say=piece) for piece in SAID), Event(over=over)]
        return web.Response(body=b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events))

    app = web.Application()
    app.router.add_post("/speak", speak)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


class ToyKeys:
    """Returns the key of the toy."""

    async def accesses(self, _project_id: str, _provider: str) -> tuple[Access, ...]:
        return (Access("sk-cage"),)


class Walk:
    """A worker's calls with the toy's registry, and the requests that the toy received."""

    def __init__(self, sessions: Sessions, address: str, requests: list[tuple[dict[str, Any], str | None]]) -> None:
        keys: Any = ToyKeys()
        blobs: Any = None  # bodies are small
        self.requests = requests
        self._calls = ProviderCalls(
            providers={"toy": HttpProvider(sessions, make_endpoint=_toy_endpoint)},
            dialects=TOY_DIALECTS,
            keys=keys,
            base_urls={"toy": address},
            blobs=blobs,
        )

    def job(self, client: Codec, body: bytes) -> Job:
        """Return the job that the client's surface makes of a request."""
        passthrough = read_passthrough(body, client)
        parsed = TOY_DIALECTS.choose(client, TARGET.kind).parse_request(passthrough)
        TOY_DIALECTS.adapt(parsed.body, TARGET, client.operation)
        return make_job(
            model=TARGET.model,
            provider=TARGET.provider,
            kind=TARGET.kind,
            upstream_model=TARGET.upstream_model,
            body=parsed.body.payload(TARGET.upstream_model),
            is_passthrough=parsed.body.is_passthrough,
            stream=StreamFormat(surface=client.dialect) if passthrough.is_stream else None,
        )

    async def answer(self, client: Codec, body: bytes) -> bytes:
        """Return the response that the client gets."""
        prepared = await self._calls.prepare(self.job(client, body))
        with LargeAnswers().turn("prj", "key") as turn:
            response = await self._calls.call(prepared, CallLimits(total_s=10), turn.take)
        assert (response.usage, response.response_id) == (USAGE, "t-1")
        translation = TOY_DIALECTS.choose(client, TARGET.kind)
        return translation.render_response(response.body, response.usage, None, RenderOptions(created_s=1))

    async def stream(self, client: Codec, body: bytes) -> bytes:
        """Return the stream that the client gets."""
        job = self.job(client, body)
        prepared = await self._calls.prepare(job)
        relay = open_relay(prepared.translation, job)
        sent: list[bytes] = []
        async with self._calls.stream(prepared, CallLimits(total_s=10), lambda: None) as batches:
            async for batch in batches:
                relay.take(batch, sent)
        result = attempt_result(relay.reader, job, elapsed_s=1)
        assert (result.usage, result.is_estimated) == (USAGE, False)
        sent.append(relay.final_events(StreamSummary(usage=result.usage, cost_usd=None, latency_ms=1)))
        return b"".join(sent)


@pytest.fixture
async def walk() -> AsyncIterator[Walk]:
    sessions = Sessions(allow_loopback=True, max_connections=8)
    requests: list[tuple[dict[str, Any], str | None]] = []
    async with toy_server(requests) as address:
        yield Walk(sessions, address, requests)
    await sessions.close()


@pytest.fixture
async def gateway(
    database_url: str, nats_url: str
) -> AsyncIterator[tuple[str, str, list[tuple[dict[str, Any], str | None]]]]:
    """A gateway with the toy in this process; its address, a project's key and the requests to the toy."""
    settings = load_settings(
        {
            "GATEWAY_DATABASE_URL": database_url,
            "GATEWAY_NATS_URL": nats_url,
            "GATEWAY_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode(),
            "GATEWAY_ALLOW_LOOPBACK_URLS": "yes",
        }
    )
    requests: list[tuple[dict[str, Any], str | None]] = []
    stop = asyncio.Event()
    async with toy_server(requests) as toy_address:

        def adapter(sessions: Sessions) -> HttpProvider:
            return HttpProvider(
                sessions,
                make_endpoint=lambda credential: Endpoint(toy_address, {"x-cage-key": credential.api_key}),
            )

        key = await project_with_toy(settings)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(workers.process.run(settings, stop, dialects=TOY_DIALECTS, adapters={"toy": adapter}))
                tasks.create_task(api.process.run(settings, listener, stop, dialects=TOY_DIALECTS))
                try:
                    yield address, key, requests
                finally:
                    stop.set()


async def project_with_toy(settings: Settings) -> str:
    """Create a project with a key for the toy. Return its own key."""
    assert settings.database_url is not None
    assert settings.encryption_key is not None
    pool = await open_pool(settings.database_url, name="tests", size=2)
    log = EventLog(pool, HeldConnection(settings.database_url, name="tests"))
    created = await Accounts(pool, log, Vault(settings.encryption_key)).create_project("p", {"toy": "sk-cage"})
    await log.close()
    await pool.close()
    return created.key.text


def openai_body(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]} | fields)


def anthropic_body(**fields: Any) -> bytes:
    return openai_body(max_tokens=9, **fields)


async def test_openais_client_gets_an_answer_from_the_toy(walk: Walk) -> None:
    written = await walk.answer(OpenAiChat(), openai_body())
    completion = openai.types.chat.ChatCompletion.model_validate_json(written)
    assert (completion.choices[0].message.content, completion.model) == ("".join(SAID), MODEL)
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 4)
    assert walk.requests == [({"model": "parrot", "lines": ["user: hello"], "stream": False}, "sk-cage")]


async def test_openais_client_gets_a_stream_from_the_toy(walk: Walk) -> None:
    stream = await walk.stream(OpenAiChat(), openai_body(stream=True))
    chunks = openai_client(stream).chat.completions.create(model=MODEL, messages=[], stream=True)
    deltas = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert [delta for delta in deltas if delta] == SAID
    assert walk.requests[0][0]["stream"] is True


async def test_anthropics_client_gets_an_answer_from_the_toy(walk: Walk) -> None:
    written = await walk.answer(AnthropicMessages(), anthropic_body())
    message = anthropic.types.Message.model_validate_json(written)
    assert [block.text for block in message.content if block.type == "text"] == ["".join(SAID)]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 4)


async def test_anthropics_client_gets_a_stream_from_the_toy(walk: Walk) -> None:
    stream = await walk.stream(AnthropicMessages(), anthropic_body(stream=True))
    with anthropic_client(stream).messages.stream(model=MODEL, max_tokens=9, messages=[]) as events:
        message = events.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == ["".join(SAID)]
    assert message.stop_reason == "end_turn"


async def test_both_vendors_clients_reach_the_toy_through_the_gateway(
    gateway: tuple[str, str, list[tuple[dict[str, Any], str | None]]],
) -> None:
    address, key, requests = gateway
    asked: list[Any] = [{"role": "user", "content": "hello"}]
    async with (
        openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=20) as openais,
        anthropic.AsyncAnthropic(base_url=address, api_key=key, max_retries=0, timeout=20) as anthropics,
    ):
        completion = await openais.chat.completions.create(model=MODEL, messages=asked)
        assert (completion.choices[0].message.content, completion.model) == ("".join(SAID), MODEL)
        chunks = await openais.chat.completions.create(model=MODEL, messages=asked, stream=True)
        deltas = [choice.delta.content async for chunk in chunks for choice in chunk.choices]
        assert [delta for delta in deltas if delta] == SAID
        message = await anthropics.messages.create(model=MODEL, max_tokens=9, messages=asked)
        assert [block.text for block in message.content if block.type == "text"] == ["".join(SAID)]
        async with anthropics.messages.stream(model=MODEL, max_tokens=9, messages=asked) as events:
            streamed = await events.get_final_message()
        assert [block.text for block in streamed.content if block.type == "text"] == ["".join(SAID)]
        assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (3, 4)
        with pytest.raises(openai.BadRequestError, match="parrots use none"):
            await openais.chat.completions.create(
                model=MODEL, messages=asked, tools=[{"type": "function", "function": {"name": "f"}}]
            )
    assert [(body["stream"], sent_key) for body, sent_key in requests] == [
        (False, "sk-cage"),
        (True, "sk-cage"),
        (False, "sk-cage"),
        (True, "sk-cage"),
    ]


@pytest.mark.parametrize(
    ("client", "body", "field"),
    [
        pytest.param(
            OpenAiChat(),
            openai_body(tools=[{"type": "function", "function": {"name": "f"}}]),
            "tools",
            id="by the toy",
        ),
        pytest.param(OpenAiChat(), openai_body(logprobs=True), "logprobs", id="by the client's codec"),
        pytest.param(
            AnthropicMessages(),
            anthropic_body(inference_geo="eu"),
            "inference_geo",
            id="by the other client's codec",
        ),
    ],
)
async def test_fields_unsupported_by_the_toy_are_refused_by_name(
    walk: Walk, client: Codec, body: bytes, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        walk.job(client, body)
    assert refused.value.field == field
    assert not walk.requests


def test_the_gateway_as_it_comes_knows_no_toy() -> None:
    with pytest.raises(KeyError):
        DIALECTS.codec("toy", "chat")
    assert TOY_DIALECTS.codec("openai", "chat") is DIALECTS.codec("openai", "chat")
