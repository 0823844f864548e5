"""A gateway with a collector: what it sends over OTLP, by gRPC for the traces and HTTP for the metrics."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.test_jobs import chat as chat_job
from tests.acceptance.test_jobs import ended
from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project
from tests.support.otlp import Collector, Tree, collector
from tests.support.waiting import eventually

CLAUDE = "claude-3-haiku-20240307"
GPT = "gpt-4o-mini"
WITHIN_S = 30
TOKEN = "collector-token-canary"


@pytest.fixture(scope="module")
def kept() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(upstream: RunningProvider, kept: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = environment_for(upstream) | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": kept.http_address,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": kept.grpc_address,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{TOKEN}",
        "OTEL_SERVICE_NAME": "our-gateway",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental/dup",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        "GATEWAY_LOG_FORMAT": "json",
    }
    directory: Path = tmp_path_factory.mktemp("telemetry") / "data"
    running = Gateway.start(directory, env=env)
    yield running
    running.stop()


@pytest.fixture
async def caller(gateway: Gateway, session: aiohttp.ClientSession) -> Client:
    return await new_project(gateway, session)


def parent() -> tuple[str, str, dict[str, str]]:
    """A trace, a span of it, and the headers of a request that belongs below."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "ours=1"}


async def tree(kept: Collector, trace_id: str, *, ends_with: str) -> Tree:
    """Wait until a trace has a span of this name, and no more come."""
    await eventually(lambda: Tree.of(kept, trace_id).named(ends_with), within_s=WITHIN_S)
    seen = -1
    while seen != len(spans := kept.spans(trace_id)):
        seen = len(spans)
        await asyncio.sleep(0.5)
    return Tree(spans)


def body(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": GPT, "messages": [{"role": "user", "content": prompt}], **fields}


async def test_a_request_joins_its_callers_trace_on_its_whole_way(
    caller: Client, kept: Collector, upstream: RunningProvider
) -> None:
    trace_id, span_id, headers = parent()
    status, answer, answered = await caller.call("POST", "/completions/chat", body("way [[cachewrite=9]]"), **headers)
    assert status == 200, answer
    trace = await tree(kept, trace_id, ends_with="append")
    server = "POST /api/v1/completions/chat"
    assert sorted(trace.shape()) == sorted(
        [
            ("", server),
            (server, "admit"),
            (server, "publish job"),
            ("publish job", "queue"),
            ("publish job", "work on job"),
            ("work on job", "claim"),
            ("work on job", f"chat {GPT}"),
            ("work on job", "append"),
        ]
    )
    assert [(span.kind, span.process) for span in (trace.one(server), trace.one(f"chat {GPT}"))] == [
        ("server", "api"),
        ("client", "worker"),
    ]
    top, call = trace.one(server), trace.one(f"chat {GPT}")
    assert top.parent_id == span_id
    assert (top.attributes["http.response.status_code"], top.is_error) == (200, False)
    assert top.attributes["gateway.request.id"] == answered["x-request-id"]
    assert (top.attributes["gateway.cache"], top.attributes["gateway.attempts"]) == ("miss", 1)
    assert top.attributes["gateway.charged.nano_usd"] == answer["data"]["cost"] * 10**9
    assert trace.one("admit").attributes["gateway.admission.outcome"] == "admitted"
    usage, expected = answer["data"]["usage"], call.attributes
    assert expected["gen_ai.operation.name"] == "chat"
    assert (expected["gen_ai.provider.name"], expected["gen_ai.system"]) == ("openai", "openai")
    assert expected["gen_ai.request.model"] == GPT
    assert expected["gen_ai.response.id"] == answer["data"]["id"]
    assert expected["gen_ai.response.finish_reasons"] == ["stop"]
    assert (expected["gen_ai.usage.input_tokens"], expected["gen_ai.usage.output_tokens"]) == (
        usage["promptTokens"],
        usage["completionTokens"],
    )
    assert expected["gen_ai.usage.cache_write.input_tokens"] == 9, "as the latest conventions name it"
    assert expected["gen_ai.usage.cache_creation.input_tokens"] == 9, "and as dashboards read it"
    assert expected["gateway.cost.nano_usd"] == answer["data"]["cost"] * 10**9
    assert expected["gateway.request.id"] == answered["x-request-id"]
    assert call.began_ns <= call.ended_ns <= trace.one("append").ended_ns
    request = next(one for one in upstream.requests() if b"way [[cachewrite" in one.body)
    assert request.header("traceparent") is None, "a provider learns nothing of its caller's traces"


async def test_every_attempt_is_a_call_of_its_own_with_its_error(caller: Client, kept: Collector) -> None:
    trace_id, _, headers = parent()
    prompt = "[[on=gpt]] [[status=500]] [[after=0]] and then"
    status, answer, _ = await caller.call(
        "POST", "/completions/chat", body(prompt, fallbacks=[CLAUDE], cache=False), **headers
    )
    assert status == 200, answer
    trace = await tree(kept, trace_id, ends_with=f"chat {CLAUDE}")
    calls = trace.of_kind("client")
    assert [(span.name, span.attributes.get("error.type"), span.is_error) for span in calls] == [
        (f"chat {GPT}", "500", True),
        (f"chat {GPT}", "500", True),
        (f"chat {CLAUDE}", None, False),
    ]
    assert [(span.attributes["gateway.attempt"], span.attributes["gateway.target"]) for span in calls] == [
        (1, 0),
        (2, 0),
        (3, 1),
    ]


async def test_an_answer_from_the_cache_calls_nobody(caller: Client, kept: Collector) -> None:
    await caller.chat("cached for telemetry")
    trace_id, _, headers = parent()
    status, answer, _ = await caller.call("POST", "/completions/chat", body("cached for telemetry"), **headers)
    assert (status, answer["data"]["cached"]) == (200, True)
    trace = await tree(kept, trace_id, ends_with="POST /api/v1/completions/chat")
    (top,) = trace.of_kind("server")
    assert (top.attributes["gateway.cache"], top.attributes["gateway.charged.nano_usd"]) == ("hit", 0)
    assert {"client", "consumer"}.isdisjoint(span.kind for span in trace.spans)


async def test_equal_requests_in_flight_share_one_call(caller: Client, kept: Collector) -> None:
    parents = [parent() for _ in range(3)]
    prompt = body("shared by all [[delay=700]]")
    answers = await asyncio.gather(
        *(caller.call("POST", "/completions/chat", prompt, **headers) for _, _, headers in parents)
    )
    assert [status for status, _, _ in answers] == [200, 200, 200]
    traces = [await tree(kept, one, ends_with="POST /api/v1/completions/chat") for one, _, _ in parents]
    assert sum(len(trace.of_kind("client")) for trace in traces) == 1
    leader = next(trace for trace in traces if trace.of_kind("client")).of_kind("client")[0]
    followed = [
        span for trace in traces for span in trace.named("admit") if "gateway.origin.request.id" in span.attributes
    ]
    assert {span.attributes["gateway.admission.outcome"] for span in followed} == {"coalesced"}
    assert {span.attributes["gateway.origin.request.id"] for span in followed} == {
        leader.attributes["gateway.request.id"]
    }


async def test_a_stream_tells_when_its_first_part_came(
    gateway: Gateway, session: aiohttp.ClientSession, caller: Client, kept: Collector, upstream: RunningProvider
) -> None:
    trace_id, _, headers = parent()
    asked = body("streamed [[delay=200]]", stream=True)
    authorization = {"Authorization": f"Bearer {caller.key}"}
    async with session.post(
        f"{gateway.address}/v1/chat/completions", json=asked, headers=authorization | headers
    ) as answer:
        content = await answer.read()
        assert answer.status == 200, content
    trace = await tree(kept, trace_id, ends_with="append")
    (call,) = trace.of_kind("client")
    assert call.attributes["gen_ai.request.stream"] is True
    assert 0.2 <= call.attributes["gen_ai.response.time_to_first_chunk"] <= (call.ended_ns - call.began_ns) / 1e9
    (top,) = trace.of_kind("server")
    assert top.name == "POST /v1/chat/completions"
    passed_on = next(one for one in upstream.requests() if b"streamed [[delay=200]]" in one.body)
    assert passed_on.header("traceparent") is passed_on.header("tracestate") is None
    assert top.ended_ns >= call.ended_ns, "to the last byte"
    assert top.attributes["gateway.charged.nano_usd"] == call.attributes["gateway.cost.nano_usd"] > 0


async def test_a_stream_that_breaks_off_is_a_failed_call_with_its_cost(
    gateway: Gateway, session: aiohttp.ClientSession, caller: Client, kept: Collector
) -> None:
    trace_id, _, headers = parent()
    authorization = {"Authorization": f"Bearer {caller.key}"}
    asked = body("broken [[cut=3]]", stream=True)
    async with session.post(
        f"{gateway.address}/v1/chat/completions", json=asked, headers=authorization | headers
    ) as answer:
        await answer.read()
    trace = await tree(kept, trace_id, ends_with="append")
    (call,) = trace.of_kind("client")
    assert (call.attributes["error.type"], call.is_error) == ("connection_lost", True)
    assert call.attributes["gateway.cost.is_estimated"] is True
    assert call.attributes["gateway.cost.nano_usd"] > 0
    (top,) = trace.of_kind("server")
    assert (top.attributes["http.response.status_code"], top.attributes["error.type"]) == (200, "PROVIDER_UNAVAILABLE")


async def test_a_refusal_says_which(
    caller: Client, gateway: Gateway, session: aiohttp.ClientSession, kept: Collector
) -> None:
    status, issued, _ = await caller.call("POST", "/projects/api-keys", {"name": "poor", "dailyBudget": 0})
    assert status == 201, issued
    poor = Client(session, gateway.address, issued["data"]["apiKey"])
    trace_id, _, headers = parent()
    status, _, _ = await poor.call("POST", "/completions/chat", body("refused"), **headers)
    assert status == 402
    trace = await tree(kept, trace_id, ends_with="POST /api/v1/completions/chat")
    (top,) = trace.of_kind("server")
    assert (top.attributes["http.response.status_code"], top.attributes["error.type"]) == (402, "BUDGET_EXCEEDED")
    assert not top.is_error, "the caller's doing, as HTTP's convention has it"
    assert trace.one("admit").attributes["gateway.admission.outcome"] == "budget_spent"
    assert trace.of_kind("client") == []


async def test_an_asynchronous_job_has_its_own_trace_linked_to_its_call(caller: Client, kept: Collector) -> None:
    trace_id, _, headers = parent()
    status, answer, _ = await caller.call("POST", "/jobs", chat_job("job [[tokens=10/5]]"), **headers)
    assert status == 202, answer
    done = await ended(caller, answer["data"]["id"])
    assert done["status"] == "succeeded", done
    submitted = await tree(kept, trace_id, ends_with="POST /api/v1/jobs")

    def run() -> list[Any]:
        return [span for span in kept.spans() if span.attributes.get("gateway.job.id") == answer["data"]["id"]]

    await eventually(run, within_s=WITHIN_S)
    (span,) = run()
    assert span.links == (submitted.one("POST /api/v1/jobs").span_id,)
    assert span.trace_id != trace_id
    made = await tree(kept, span.trace_id, ends_with="append")
    assert [one.name for one in made.of_kind("client")] == [f"chat {GPT}"]


async def test_figures_have_the_names_of_both_conventions_and_the_costs_of_the_answers(
    caller: Client, kept: Collector
) -> None:
    def spent() -> Decimal:
        return sum((Decimal(repr(point.value)) for point in kept.points("gateway.cost.usage")), Decimal(0))

    async def settled() -> Decimal:
        before, now = Decimal(-1), spent()
        while before != now:
            await asyncio.sleep(1)
            before, now = now, spent()
        return now

    before = await settled()
    _, answer, _ = await caller.chat("figures [[tokens=1000/500]] [[reasoning=7]]", cache=False)
    cost = answer["data"]["cost"]
    await eventually(lambda: spent() > before, within_s=WITHIN_S)
    assert abs(spent() - before - cost) < Decimal("1e-12")
    assert {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "gen_ai.client.inference.duration",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.usage.output_tokens",
        "gen_ai.client.inference.usage.reasoning.output_tokens",
        "gen_ai.client.inference.operation.input_tokens",
        "http.server.request.duration",
    } <= kept.metric_names()
    old, *_ = kept.points("gen_ai.client.token.usage", gen_ai__token__type="output", gen_ai__request__model=GPT)
    assert (old.unit, old.bounds[:3]) == ("{token}", (1, 4, 16))
    duration, *_ = kept.points(
        "http.server.request.duration", http__route="/api/v1/completions/chat", http__response__status_code=200
    )
    assert (duration.unit, duration.count > 0) == ("s", True)


async def test_what_is_sent_says_who_sends_it_and_nothing_secret(
    caller: Client, gateway: Gateway, kept: Collector
) -> None:
    trace_id, _, headers = parent()
    await caller.call("POST", "/completions/chat", body("prompt-canary-17 [[say=answer-canary-17]]"), **headers)
    await tree(kept, trace_id, ends_with="append")
    sent = b"".join(kept.raw)
    assert caller.key is not None
    for secret in ("canary-17", "sk-test-openai-canary", caller.key, gateway.master_key, TOKEN):
        assert secret.encode() not in sent, secret
    assert {one["authorization"] for one in kept.headers} == {f"Bearer {TOKEN}"}
    assert {one["service.name"] for one in kept.resources} == {"our-gateway"}
    assert {one["deployment.environment.name"] for one in kept.resources} == {"tests"}
    instances = {one["service.instance.id"] for one in kept.resources}
    assert len(instances) == 2, "the API and the worker, each as one"
    assert TOKEN not in gateway.errors()


async def test_log_lines_name_the_trace_of_their_request(caller: Client, gateway: Gateway, kept: Collector) -> None:
    trace_id, _, headers = parent()
    await caller.call("POST", "/completions/chat", body("[[status=400]] logged"), **headers)
    trace = await tree(kept, trace_id, ends_with="append")

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line[line.index("{") :]) for line in gateway.errors().splitlines() if trace_id in line]

    await eventually(lambda: {"attempt_failed", "request"} <= {line["event"] for line in lines()}, within_s=WITHIN_S)
    spans = {line["event"]: line["span_id"] for line in lines()}
    assert spans["attempt_failed"] == trace.one("work on job").span_id
    assert [spans["request"]] == [span.span_id for span in trace.of_kind("server")]
