"""Generates a plausible history from a seed: every type of event, about projects, keys and requests, over days."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from domain.call_origin import Origin
from domain.events import (
    INSTALLATION,
    AlertTold,
    ApiKeyChanged,
    ApiKeyIssued,
    ApiKeyRevoked,
    AttemptFailed,
    AttemptLost,
    BatchAccepted,
    BatchEnded,
    BudgetAlertRaised,
    CachedCopy,
    CircuitClosed,
    CircuitOpened,
    CostIncurred,
    CredentialRemoved,
    CredentialSet,
    Event,
    JobCancelled,
    JobFailed,
    JobsClaimed,
    JobStarted,
    JobSucceeded,
    KeptResponse,
    KeySettings,
    PriceSet,
    ProjectCreated,
    ProjectSettingsChanged,
    ProviderConfigured,
    ProviderKeySet,
    ProviderRemoved,
    RequestAccepted,
    RequestCompleted,
    RequestFailed,
    RequestRejected,
    RequestServedFromCache,
    RouteRemoved,
    RouteSet,
    WebhookSecretRotated,
    WebhookTold,
    alert_stream,
    batch_stream,
    circuit_stream,
    claim_stream,
    job_stream,
    key_stream,
    price_stream,
    project_stream,
    provider_stream,
    request_stream,
    route_stream,
)
from domain.idempotency import Idempotency
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price, cost
from domain.request_decider import decide_completed, decide_reconciled, lost_attempts
from domain.routes import RouteSettings, RouteTarget
from domain.tokens import TokenUsage
from infra.event_log import Commit
from infra.ids import new_id

FIRST_DAY = datetime(2026, 2, 26, tzinfo=UTC)
DAYS = 6
MODELS = (("gpt-4o-mini", "openai"), ("claude-3-haiku", "anthropic"), ("echo", "echo"))
PRICE = Price(provider="x", model="m", source="tests", prices=ClassPrices(input=1_234_567, output=7_654_321))


class Past:
    """Generates commits. `commits` has all of them, in a possible order."""

    def __init__(self, seed: int, requests: int) -> None:
        self._random = random.Random(seed)
        self.commits: list[Commit] = []
        self.keys: list[tuple[str, str]] = []
        for _ in range(2):
            self._project()
        for number in range(requests):
            at = FIRST_DAY + timedelta(days=DAYS) * number / requests
            self._request(at, *self._random.choice(self.keys))
        self._commit(INSTALLATION, price_stream("openai", f"m{seed}"), 0, FIRST_DAY, _price_set(f"m{seed}"))
        for owner in (INSTALLATION, self.keys[0][0]):
            self._commit(owner, provider_stream(owner, f"groq{seed}"), 0, FIRST_DAY, *_configured(f"groq{seed}"))
        gone = provider_stream(INSTALLATION, f"gone{seed}")
        self._commit(INSTALLATION, gone, 0, FIRST_DAY, *_configured(f"gone{seed}"), ProviderRemoved(name=f"gone{seed}"))
        alert = _alert(self.keys[0][1])
        delivered = AlertTold(alert=alert_stream(alert), outcome="delivered", deliveries=1, status=204)
        self._commit(self.keys[0][0], alert_stream(alert), 0, FIRST_DAY, alert, delivered)
        further = CredentialSet(provider="openai", name="second", hint="wxyz", weight=3)
        dropped = CredentialRemoved(provider="openai", name="second")
        self._commit(INSTALLATION, provider_stream(INSTALLATION, f"openai{seed}"), 0, FIRST_DAY, further, dropped)
        route = RouteSettings(groups=((RouteTarget(model="gpt-4o"),), (RouteTarget(model="echo", weight=2),)))
        for name, events in (("kept", ()), ("gone", (RouteRemoved(name=f"gone{seed}"),))):
            stream, made = route_stream(INSTALLATION, f"{name}{seed}"), RouteSet(name=f"{name}{seed}", settings=route)
            self._commit(INSTALLATION, stream, 0, FIRST_DAY, made, *events)
        self._jobs(*self.keys[0])
        circuit = circuit_stream(INSTALLATION, "openai", "", f"m{seed}", 0)
        opened = CircuitOpened(provider="openai", model=f"m{seed}", reason="down", wait_ms=2_000, calls=10, failures=10)
        closed = CircuitClosed(provider="openai", model=f"m{seed}", open_ms=2_100)
        self._commit(INSTALLATION, circuit, 0, FIRST_DAY, opened, closed)

    def _project(self) -> None:
        project = new_id("prj")
        self._commit(
            project,
            project_stream(project),
            0,
            FIRST_DAY,
            ProjectCreated(name="first", installation_daily_budget_nano_usd=NanoUsd(5_000_000_000)),
            ProviderKeySet(provider="openai", hint="abcd"),
            WebhookSecretRotated(rotation=1),
            ProjectSettingsChanged(
                name="second", daily_budget_nano_usd=NanoUsd(5), installation_daily_budget_nano_usd=NanoUsd(7)
            ),
        )
        for number in range(3):
            key = new_id("key")
            self.keys.append((project, key))
            settings = KeySettings(name=f"key {number}", rate_limit=None if number else 60)
            issued = ApiKeyIssued(
                key_id=key, secret_hash=f"{hash(key) & 0xFFFFFFFF:08x}", hint="wxyz", settings=settings
            )
            changed = ApiKeyChanged(key_id=key, settings=KeySettings(name="changed", token_limit=7))
            events: tuple[Event, ...] = (issued, changed, ApiKeyRevoked(key_id=key))
            self._commit(project, key_stream(key), 0, FIRST_DAY, *events[: number + 1])

    def _jobs(self, project: str, key: str) -> None:
        """A batch with a job of each end, and one that has only been accepted."""
        batch, later = new_id("batch"), FIRST_DAY + timedelta(days=1)
        url = "https://example.com/hook"
        accepted = BatchAccepted(batch_id=batch, key_id=key, jobs=4, webhook_url=url, deadline=later)
        self._commit(project, batch_stream(batch), 0, FIRST_DAY, accepted)
        claimed = JobsClaimed(key_id=key, fingerprint="f", batch_id=batch)
        self._commit(project, claim_stream(batch), 0, FIRST_DAY, claimed)
        for number in range(4):
            job: dict[str, Any] = {"job_id": new_id("job"), "key_id": key}
            blobs: dict[str, Any] = {"request_blob_id": "b", "request_bytes": 7}
            first = RequestAccepted(**job, **blobs, operation="chat", model="echo", batch_id=batch, deadline=later)
            self._commit(project, job_stream(job["job_id"]), 0, FIRST_DAY, first)
            started = JobStarted(**job, request_id=f"req_{number}", run=1)
            result: dict[str, Any] = {"result_blob_id": "b", "result_bytes": 2, "result_expires_at": later}
            ends: tuple[tuple[Event, ...], ...] = (
                (started, JobSucceeded(**job, request_id="req_0", **result)),
                (
                    started,
                    JobFailed(**job, code="X", message="m", status=400),
                    WebhookTold(outcome="given_up", deliveries=5),
                ),
                (JobCancelled(**job, by_key_id=key),),
                (),
            )
            for event_number, event in enumerate(ends[number], start=1):
                self._commit(project, job_stream(job["job_id"]), event_number, later, event)
        ended = BatchEnded(batch_id=batch, key_id=key, succeeded=1, failed=1, cancelled=1)
        told = WebhookTold(outcome="delivered", deliveries=1, status=204)
        self._commit(project, batch_stream(batch), 1, later, ended, told)

    def _request(self, at: datetime, project: str, key: str) -> None:
        choose, request = self._random, new_id("req")
        model, provider = choose.choice(MODELS)
        metadata = choose.choice([None, {"team": choose.choice(["a", "b", 3])}, {"team": None, "x": [1, {"y": "z"}]}])
        subject: dict[str, Any] = {
            "request_id": request,
            "key_id": key,
            "operation": choose.choice(["chat", "embeddings"]),
            "model": model,
            "provider": provider,
            "metadata": metadata,
            "origin": choose.choice([None, Origin(session="s", client="c"), Origin(agent="a")]),
            "idempotency": self._known_by(at),
        }
        stream, latency_ms = request_stream(request), choose.randrange(40_000)
        usage = TokenUsage(input=choose.randrange(3_000), output=choose.randrange(900), cache_read=choose.randrange(9))
        match choose.randrange(10):
            case 0:
                served = RequestServedFromCache(
                    **subject,
                    origin_request_id="req_origin",
                    usage=usage,
                    saved_nano_usd=choose.choice([None, NanoUsd(77)]),
                    latency_ms=latency_ms,
                )
                self._commit(project, stream, 0, at, served)
            case 1:
                figures = dict.fromkeys(
                    ("limit_nano_usd", "taken_nano_usd", "held_nano_usd", "asked_nano_usd"), NanoUsd(1)
                )
                self._commit(project, stream, 0, at, RequestRejected(**subject, window="daily", **figures))
            case kind:
                self._attempts(project, stream, at, subject, usage, latency_ms, kind)

    def _known_by(self, at: datetime) -> Idempotency | None:
        """One of a few keys, so that requests follow each other under the same one."""
        choose = self._random
        if choose.randrange(2):
            return None
        return Idempotency(
            key=f"{choose.randrange(9):064x}",
            fingerprint="f",
            received_at_ms=round(at.timestamp() * 1000),
            ttl_s=10**9,
            derived=choose.choice([None, "first", "retry"]),
        )

    def _attempts(
        self,
        project: str,
        stream: str,
        at: datetime,
        subject: dict[str, Any],
        usage: TokenUsage,
        latency_ms: int,
        kind: int,
    ) -> None:
        history: list[Event] = []

        def add(*events: Event) -> None:
            self._commit(project, stream, len(history), at, *events)
            history.extend(events)

        day, hold = at.date(), NanoUsd(50_000_000)
        attempt: dict[str, Any] = subject | {"upstream_model": "m"}
        number = 1
        if kind in (2, 3):
            add(AttemptFailed(**attempt, attempt=1, code="X", message="m", hold_nano_usd=hold, budget_day=day))
            number = 2
        if kind in (3, 4, 5):
            add(_lost(attempt, number, hold, day))
        answered = (
            RequestCompleted(
                **attempt,
                attempt=number,
                answered_by="m",
                response_id="r",
                finish_reason="stop",
                usage=usage,
                latency_ms=latency_ms,
                first_token_ms=latency_ms // 3 if kind == 7 else None,
                request_bytes=1,
                answer_bytes=2,
                answer_digest="00",
                cached_copy=CachedCopy(key=new_id("c").encode().hex(), ttl_s=10**9, blob_id="b") if kind == 9 else None,
            ),
            _cost(attempt, number, usage, hold, day, priced=kind != 8),
        )
        if kind == 4:
            add(*decide_reconciled(history, lost_attempts(history)[0], NanoUsd(123), source="operator"))
        elif kind == 5:
            add(RequestFailed(**subject, code="X", message="m", latency_ms=latency_ms))
        elif kind == 6:
            add(AttemptFailed(**attempt, attempt=1, code="X", message="m", hold_nano_usd=hold, budget_day=day))
            add(RequestFailed(**subject, code="X", message="m", latency_ms=latency_ms))
        else:
            add(*decide_completed(history, *answered))

    def _commit(self, project: str, stream: str, version: int, at: datetime, *events: Event) -> None:
        self.commits.append(Commit(stream=stream, expected_version=version, project_id=project, at=at, events=events))


def _lost(attempt: dict[str, Any], number: int, hold: NanoUsd, day: date) -> AttemptLost:
    kept = KeptResponse(response_id="r", operation=attempt["operation"], kind="openai", price=PRICE)
    return AttemptLost(
        **attempt,
        attempt=number,
        reason="worker_lost",
        assumed_nano_usd=hold,
        budget_day=day,
        response_id=kept.response_id,
        kept=kept,
    )


def _cost(
    attempt: dict[str, Any], number: int, usage: TokenUsage, hold: NanoUsd, day: date, *, priced: bool
) -> CostIncurred:
    breakdown = cost(usage, PRICE) if priced else None
    return CostIncurred(
        **attempt,
        attempt=number,
        cost_nano_usd=breakdown.total_nano_usd if breakdown else None,
        price=PRICE if priced else None,
        breakdown=breakdown,
        hold_nano_usd=hold,
        budget_day=day,
    )


def _configured(name: str) -> tuple[ProviderConfigured, ProviderConfigured]:
    first = ProviderConfigured(name=name, kind="openai", base_url="https://api.example.com/v1", hint="1234")
    return first, replace(first, models=("a", "b"), hint="5678", replaces_builtin=True)


def _price_set(model: str) -> PriceSet:
    return PriceSet(provider="openai", model=model, prices=ClassPrices(input=1), effective_from=FIRST_DAY)


def _alert(key: str) -> BudgetAlertRaised:
    return BudgetAlertRaised(
        scope="key",
        scope_id=key,
        period="day",
        starts_on=FIRST_DAY.date(),
        threshold_percent=80,
        limit_nano_usd=NanoUsd(10),
        taken_nano_usd=NanoUsd(9),
    )
