"""Figures have bounded labels, say what the log says, and those of all processes join to one page."""

import asyncio
import math
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import Metrics
from api.request_facts import RequestFacts
from docs.metrics_page import lines
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    RequestCompleted,
    RequestServedFromCache,
    StoredEvent,
)
from domain.money import NanoUsd
from domain.tokens import TokenUsage
from infra.batching import Batcher
from infra.figures import (
    MAX_MODELS,
    MAX_MODELS_OF_ONE,
    MAX_PROVIDERS,
    OTHER,
    SECONDS,
    Children,
    HistogramTally,
    ModelLabels,
    ProcessFigures,
    Tally,
)
from infra.merged_figures import merge, read_pages
from infra.probes import Probes, Report
from projections.figures import LogFigures, ProjectorFigures
from workers.figures import WorkerInstruments

AT = datetime(2026, 11, 26, 6, tzinfo=UTC)
DAY = AT.date()
ASKED = {"request_id": "req_1", "key_id": "key_1", "operation": "chat", "model": "gpt-4o-mini", "provider": "openai"}
ATTEMPT = ASKED | {"upstream_model": "gpt-4o-mini"}


def samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def page_of(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def stored(*events: Any) -> list[StoredEvent]:
    return [
        StoredEvent(
            position=position,
            stream="request-req_1",
            version=position,
            type=type(event).__name__,
            project_id="proj_1",
            at=AT,
            event=event,
        )
        for position, event in enumerate(events, start=1)
    ]


def test_labels_are_bounded_and_a_model_gets_its_own_once_it_has_answered() -> None:
    labels = ModelLabels()
    assert labels.of("openai", "a-callers-word") == ("openai", OTHER)
    assert labels.answered("openai", "gpt-4o-mini") == ("openai", "gpt-4o-mini")
    assert labels.of("openai", "gpt-4o-mini") == ("openai", "gpt-4o-mini")
    found = {labels.answered(f"provider-{n}", f"model-{n}") for n in range(3 * MAX_MODELS)}
    found |= {labels.of(f"tenants-{n}", "m") for n in range(1_000)}
    assert len({provider for provider, _ in found}) <= MAX_PROVIDERS + 1
    assert len({model for _, model in found}) <= MAX_MODELS + 1
    assert labels.provider("anthropic") == "anthropic", "the built-in ones keep their places"


def test_who_answers_to_any_name_leaves_the_models_of_others_their_labels() -> None:
    labels = ModelLabels()
    of_echo = {labels.answered("echo", f"echo-{n}") for n in range(3 * MAX_MODELS)}
    assert of_echo == {("echo", "echo")}
    assert labels.of("echo", "echo-of-anyone") == ("echo", "echo")
    for tenant in range(MAX_PROVIDERS):
        own = {labels.answered(f"tenants-{tenant}", f"model-{n}") for n in range(MAX_MODELS)}
        assert len(own) <= MAX_MODELS_OF_ONE + 1
    assert labels.answered("openai", "gpt-5") == ("openai", "gpt-5")
    assert labels.answered("anthropic", "claude-opus-4-5") == ("anthropic", "claude-opus-4-5")


def test_there_are_never_more_models_than_the_places_of_all() -> None:
    labels = ModelLabels()
    providers = ("openai", "anthropic", "echo", *(f"tenants-{n}" for n in range(MAX_PROVIDERS)))
    found = {labels.answered(provider, f"model-{n}") for n in range(MAX_MODELS) for provider in providers}
    assert len([model for _, model in found if model != OTHER]) <= MAX_MODELS


def test_a_series_is_made_once_and_counts_what_its_metric_shows() -> None:
    registry = CollectorRegistry()
    series = Children(Counter("calls_total", "Calls.", ("route", "status"), registry=registry))
    assert series["chat", "200"] is series["chat", "200"]
    series["chat", "200"].inc()
    series["chat", "200"].inc()
    assert samples(page_of(registry))["calls_total", (("route", "chat"), ("status", "200"))] == 2


def test_what_is_counted_is_in_the_next_page_once() -> None:
    registry = CollectorRegistry()
    tally = Tally(Counter("calls_total", "Calls.", ("route",), registry=None), registry)
    tally.since_look["chat",] += 1
    tally.since_look["chat",] += 1
    assert samples(page_of(registry)) == {("calls_total", (("route", "chat"),)): 2}
    assert samples(page_of(registry)) == {("calls_total", (("route", "chat"),)): 2}
    tally.since_look["chat",] += 1
    assert registry.get_sample_value("calls_total", {"route": "chat"}) == 3


def test_a_series_counts_from_its_first_call_whenever_metrics_are_read() -> None:
    registry = CollectorRegistry()
    tally = Tally(Counter("calls_total", "Calls.", ("route",), registry=None), registry)
    before_s = time.time()
    tally.since_look["chat",] += 1
    after_s = time.time()
    created_s = registry.get_sample_value("calls_created", {"route": "chat"})
    assert created_s is not None
    assert before_s <= created_s <= after_s


def test_a_histogram_shows_what_prometheus_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.0)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = HistogramTally(Histogram("s", "Seconds.", ("route", "to"), buckets=SECONDS, registry=None), ours)
    histogram = Histogram("s", "Seconds.", ("route", "to"), buckets=SECONDS, registry=theirs)
    assert generate_latest(ours) == generate_latest(theirs)
    random = Random(1)
    amounts = [0.0, -1.0, math.inf, *SECONDS, *(random.expovariate(1.0) for _ in range(1000))]
    for number, amount in enumerate(amounts):
        labels = (f"r{number % 3}", "x")
        tally.series[labels].observe(amount)
        histogram.labels(*labels).observe(amount)
        if number % 100 == 0:
            assert generate_latest(ours) == generate_latest(theirs)
    assert generate_latest(ours) == generate_latest(theirs)
    assert generate_latest(ours) == generate_latest(theirs)


def test_requests_are_counted_by_who_answered_and_how_it_went() -> None:
    metrics = Metrics()
    answered = RequestFacts(operation="chat", provider="openai", model="gpt-4o-mini", has_answer=True, cache="hit")
    refused = RequestFacts(operation="chat", provider="openai", model="made-up", error_code="BUDGET_EXCEEDED")
    stream = RequestFacts(
        operation="chat",
        provider="anthropic",
        model="c",
        has_answer=True,
        cache="bypass",
        is_stream=True,
        first_byte_s=0.2,
    )
    for status, facts in (("200", answered), ("402", refused), ("200", stream), ("401", RequestFacts())):
        metrics.observe("chat", status, 0.3, facts)
    found = samples(page_of(metrics.registry))

    def counted(outcome: str, status: str, provider: str, model: str) -> float:
        labels = {"operation": "chat", "provider": provider, "model": model, "status": status, "outcome": outcome}
        return found["gateway_inference_requests_total", tuple(sorted(labels.items()))]

    assert counted("ok", "200", "openai", "gpt-4o-mini") == 1
    assert counted("BUDGET_EXCEEDED", "402", "openai", OTHER) == 1
    assert counted("ok", "200", "anthropic", "c") == 1
    assert found["gateway_cache_requests_total", (("result", "hit"),)] == 1
    of = (("operation", "chat"), ("provider", "anthropic"))
    assert found["gateway_time_to_first_token_seconds_count", of] == 1
    assert ("gateway_time_to_first_token_seconds_count", (("operation", "chat"), ("provider", "openai"))) not in found
    assert found["gateway_inference_seconds_count", (("operation", "chat"), ("provider", "openai"))] == 1
    assert found["gateway_requests_total", (("route", "chat"), ("status", "401"))] == 1


def test_what_the_log_says_is_counted_to_the_last_nano_dollar() -> None:
    registry = CollectorRegistry()
    figures = LogFigures(registry)
    hold = {"hold_nano_usd": NanoUsd(10_000), "budget_day": DAY}
    figures.count(
        stored(
            AttemptFailed(**ATTEMPT, attempt=1, code="PROVIDER_UNAVAILABLE", message="", next_target=1, **hold),
            AttemptLost(**ATTEMPT, attempt=2, reason="timeout", assumed_nano_usd=NanoUsd(10_000), budget_day=DAY),
            RequestCompleted(
                **ATTEMPT,
                attempt=3,
                answered_by="gpt-4o-mini",
                response_id="r",
                usage=TokenUsage(input=20, cache_read=5, output=8, reasoning=3),
                latency_ms=5,
                request_bytes=1,
                answer_bytes=1,
                answer_digest="",
            ),
            CostIncurred(
                **ATTEMPT,
                attempt=3,
                cost_nano_usd=NanoUsd(12_345),
                price=None,
                breakdown=None,
                replaces_assumed_nano_usd=NanoUsd(10_000),
                **hold,
            ),
            RequestServedFromCache(
                **ASKED, origin_request_id="req_0", usage=TokenUsage(), saved_nano_usd=NanoUsd(555), latency_ms=1
            ),
        )
    )
    found = samples(page_of(registry))
    of_model = (("model", "gpt-4o-mini"), ("provider", "openai"))
    of_provider = (("provider", "openai"),)

    def attempts(outcome: str) -> float:
        return found["gateway_attempts_total", (("outcome", outcome), *of_provider)]

    assert attempts("PROVIDER_UNAVAILABLE") == attempts("lost_timeout") == attempts("answered") == 1
    assert found["gateway_retries_total", of_provider] == 2
    assert found["gateway_fallbacks_total", of_provider] == 1
    assert round(found["gateway_cost_usd_total", of_model] * 1e9) == 12_345
    assert round(found["gateway_saved_usd_total", of_model] * 1e9) == 555
    assert found["gateway_assumed_usd_total", of_provider] == found["gateway_settled_usd_total", of_provider]
    assert found["gateway_answers_over_hold_total", of_model] == 1
    tokens = {labels[0][1]: value for (name, labels), value in found.items() if name == "gateway_tokens_total"}
    assert tokens == {"input": 20, "cache_read": 5, "output": 8, "reasoning": 3}


async def test_a_batch_is_counted_with_its_size() -> None:
    registry = CollectorRegistry()
    begun = asyncio.Event()

    async def double(items: Sequence[int]) -> Sequence[int]:
        await begun.wait()
        return [2 * item for item in items]

    batcher: Batcher[int, int] = Batcher(double, name="doubles", max_batch=10, max_waiting=10)
    ProcessFigures(registry).watch_batches([batcher])
    waiting = [asyncio.ensure_future(batcher.submit(item)) for item in range(5)]
    await asyncio.sleep(0)
    begun.set()
    assert await asyncio.gather(*waiting) == [0, 2, 4, 6, 8]
    await batcher.close()
    found = samples(page_of(registry))
    assert found["gateway_batch_items_sum", (("batch", "doubles"),)] == 5
    assert (
        found["gateway_batch_seconds_count", (("batch", "doubles"),)]
        == found["gateway_batch_items_count", (("batch", "doubles"),)]
    )


def test_pages_join_to_one_that_prometheus_can_read_with_every_sample_of_every_process() -> None:
    pages = {"api-1": page_of(Metrics().registry), "api-2": page_of(Metrics().registry)}
    pages |= {"worker-1": page_of(WorkerInstruments().registry), "projector": page_of(ProjectorFigures().registry)}
    joined = merge(pages | {"worker-2": None})
    about = re.findall(r"^# TYPE (\S+)", joined, re.MULTILINE)
    assert len(about) == len(set(about)), "all samples of a metric stand together"
    found = samples(joined)
    for process, page in pages.items():
        for (name, labels), value in samples(page).items():
            if not name.startswith("process_"):  # they move on
                assert found[name, tuple(sorted((*labels, ("process", process))))] == value
    assert found["gateway_process_up", (("process", "api-2"),)] == 1
    assert found["gateway_process_up", (("process", "worker-2"),)] == 0


async def test_the_processes_of_a_directory_are_read_and_a_dead_one_is_shown_as_that(tmp_path: Path) -> None:
    async def report() -> Report:
        return Report(is_ready=True, details={})

    async def metrics() -> bytes:
        return b"# HELP a A.\n# TYPE a gauge\na 1.0\n"

    probes = [
        Probes(report=report, metrics=metrics, host="", port=None, token="secret", socket=tmp_path / f"{name}.sock")
        for name in ("api-1", "worker-1")
    ]
    for one in probes:
        await one.serve()
    (tmp_path / "worker-2.sock").touch()
    try:
        pages = await read_pages(tmp_path)
    finally:
        for one in probes:
            await one.close()
    assert pages == {"api-1": "# HELP a A.\n# TYPE a gauge\na 1.0\n", "worker-1": pages["api-1"], "worker-2": None}
    assert merge(pages).splitlines()[:4] == [
        "# HELP a A.",
        "# TYPE a gauge",
        'a{process="api-1"} 1.0',
        'a{process="worker-1"} 1.0',
    ]


def test_the_reference_has_every_metric_and_none_has_a_label_of_a_caller() -> None:
    page = "\n".join(lines())
    for registry in (Metrics().registry, WorkerInstruments().registry, ProjectorFigures().registry):
        for family in registry.collect():
            assert f"`{family.name}" in page or family.name.startswith(("process_", "python_")), family.name
    labels = set(re.findall(r"`(\w+)`", " ".join(line.split("|")[3] for line in lines()[0:] if line.startswith("| `"))))
    assert labels.isdisjoint({"key", "key_id", "project", "project_id", "user", "path", "request_id"})


async def test_a_process_lives_without_the_directory_of_its_socket(tmp_path: Path) -> None:
    async def report() -> Report:
        return Report(is_ready=True, details={})

    async def metrics() -> bytes:
        return b""

    gone = tmp_path / "cleaned-away" / "api-1.sock"
    probes = Probes(report=report, metrics=metrics, host="", port=None, token=None, socket=gone)
    await probes.serve()
    await probes.close()
