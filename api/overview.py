"""What a reader wants to know first: what is spent and will be, how full every cap is, and what is wrong."""

from datetime import UTC, datetime
from decimal import Decimal

from msgspec import Struct

from api.provider_health import FailingTarget, ProviderHealth
from api.readiness import Findings
from api.services import Services
from domain.events import INSTALLATION
from infra.database import Pool
from infra.snapshot import snapshot
from projections.reports.alerts import Alert, ErrorCount, errors_by_code, last_alerts
from projections.reports.costs import highest
from projections.reports.figures import Figures, dollars
from projections.reports.labels import labels_of
from projections.reports.money import Cap, Spend, caps, spends
from projections.reports.scope import Window
from projections.reports.usage import Span, Time, UsageLine, span, totals, usage_over_time
from projections.scope import Scope

MAX_TOP = 5
_PARTS = ("postgresql", "nats", "migrations", "projector")

_NOT_CALLED = "not called, because it failed too often"
_TRIED_AGAIN = "failed too often; the next request tries it again"


class Top(Struct, kw_only=True, rename="camel"):
    """One of those with the highest costs."""

    id: str
    name: str
    requests: int
    cost: Decimal


class Away(Struct, kw_only=True, rename="camel"):
    """Something that does not work at the moment."""

    what: str
    """`postgresql`, `nats`, `migrations`, `projector`, `quarantine`, or `provider/model`. Of the installation's
    credentials, a reader of one project learns the provider alone.
    """
    state: str
    """Of a target: that it is not called, or what its last calls have met."""
    is_partly: bool = False
    """It works, but not always."""


class Overview(Struct, kw_only=True, rename="camel"):
    """The state of a scope, and its usage in a window beside the one before."""

    today: Spend
    month: Spend
    caps: list[Cap]
    """The fullest first, at most 100."""
    period: Span
    totals: Figures
    previous_totals: Figures
    """Of the window of the same length before."""
    errors: list[ErrorCount]
    top_projects: list[Top]
    """Empty for a reader of one project."""
    top_models: list[Top]
    top_keys: list[Top]
    alerts: list[Alert]
    """Raised in the window, the newest first."""
    away: list[Away]
    """Of the gateway itself, for the operator alone; providers as far as the reader's calls may go to them."""


async def overview_of(services: Services, scope: Scope, window: Window) -> Overview:
    """Return the overview of a scope. Raises as `overview_over_time`."""
    away = await _away(services, scope)
    async with snapshot(services.pool) as pool:
        return await _read(pool, scope, window, away, await totals(pool, scope, window))


async def overview_over_time(
    services: Services, scope: Scope, window: Window, time: Time
) -> tuple[Overview, list[UsageLine]]:
    """Return the overview of a scope, and its usage over time, from which the totals are: no row is read twice.

    Raises:
        Unavailable: the database is away.

    """
    away = await _away(services, scope)
    async with snapshot(services.pool) as pool:
        over_time = await usage_over_time(pool, scope, window, time)
        return await _read(pool, scope, window, away, over_time.totals), over_time.lines


async def _read(pool: Pool, scope: Scope, window: Window, away: list[Away], all_of_it: Figures) -> Overview:
    now = datetime.now(UTC)
    spent = await spends(pool, scope, now)
    return Overview(
        today=spent.today,
        month=spent.month,
        caps=await caps(pool, scope, now),
        period=span(window),
        totals=all_of_it,
        previous_totals=await totals(pool, scope, window.before()),
        errors=await errors_by_code(pool, scope, window),
        top_projects=await _top(pool, scope, window, "project") if scope.project_id is None else [],
        top_models=await _top(pool, scope, window, "model"),
        top_keys=await _top(pool, scope, window, "key"),
        alerts=await last_alerts(pool, scope, window.moments()[0]),
        away=away,
    )


async def _top(pool: Pool, scope: Scope, window: Window, group: str) -> list[Top]:
    found = await highest(pool, scope, window, group, most=MAX_TOP)
    ids = [one.group[0] for one in found]
    names = await labels_of(pool, keys=ids if group == "key" else (), project_ids=ids if group == "project" else ())
    return [
        Top(id=of, name=names.get(of, of), requests=one.requests, cost=dollars(one.cost_nano_usd))
        for of, one in zip(ids, found, strict=True)
    ]


async def _away(services: Services, scope: Scope) -> list[Away]:
    health = services.provider_health
    if scope.project_id is None:
        findings: Findings = await services.readiness.findings()
        states = ((part, getattr(findings, part)) for part in _PARTS)
        found = [Away(what=part, state=state) for part, state in states if state != "ok"]
        if findings.quarantined_projects:
            found.append(Away(what="quarantine", state=f"{findings.quarantined_projects} projects"))
        return found + targets_away(health)
    return targets_away(health, scope.project_id) + providers_away(health)


def targets_away(health: ProviderHealth, owner: str = INSTALLATION) -> list[Away]:
    """Return the targets under an owner's credentials that are not called, and those that are called and fail."""
    open_ones, not_called = health.open_circuits(owner), health.left_alone(owner)
    return [
        *(Away(what=target, state=_NOT_CALLED if target in not_called else _TRIED_AGAIN) for target in open_ones),
        *(_failing(one) for one in health.failing(owner) if one.name not in open_ones),
    ]


def providers_away(health: ProviderHealth) -> list[Away]:
    """Return the same of the installation's providers, without the models: others ask for them."""
    not_called = health.open_providers()
    failing = sorted({one.provider for one in health.failing()} - set(not_called))
    return [
        *(Away(what=name, state="not called for some models, because they failed too often") for name in not_called),
        *(Away(what=name, state="failing for some models", is_partly=True) for name in failing),
    ]


def _failing(one: FailingTarget) -> Away:
    calls = "the last call" if one.calls == 1 else f"{one.failures:,} of the last {one.calls:,} calls"
    is_partly = one.state == "failingPartly"
    how = "failing partly" if is_partly else "failing"
    return Away(what=one.name, state=f"{how}: {calls} failed", is_partly=is_partly)
