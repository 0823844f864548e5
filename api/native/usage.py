"""`/usage`: what was asked, what it cost, what is left. Never behind an answer already given."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct

from api.authentication import Caller
from api.native.envelope import Described, Description, success
from api.requests import HttpRequest, caller_of, query_of, services_of
from domain.budget import PERIODS, Scope, day_of
from domain.errors import Forbidden, InvalidRequest
from domain.money import NanoUsd
from infra.database import Pool
from projections import keys
from projections.budgets import BudgetStatus, balance_of, status
from projections.freshness import wait_until_folded
from projections.usage_reports import GROUPS, METADATA_PREFIX, CostReport, UsageStats, cost_report, usage_stats

MAX_DAYS = 3_660
Days = Annotated[int, Meta(ge=1, le=MAX_DAYS)]


class StatsQuery(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """`days` counts today; `keyId` narrows an admin's view."""

    days: Days = 30
    key_id: str | None = None


class CostsQuery(StatsQuery, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """And what the costs are broken down by."""

    group_by: Annotated[str, Meta(extra_json_schema={"pattern": f"^({'|'.join(GROUPS)}|metadata\\.[^\\x00]+)$"})] = (
        "model"
    )


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Windows(Struct, kw_only=True):
    """A budget's windows; null where there is no limit."""

    daily: BudgetStatus | None
    monthly: BudgetStatus | None


class ProjectWindows(Windows, kw_only=True, rename="camel"):
    """A project's windows, which all its keys share."""

    installation_daily: BudgetStatus | None
    """For requests under the installation's credentials. All that the project takes of a day counts in it."""


class BudgetView(Windows, kw_only=True):
    """The calling key's windows, and beside them its project's."""

    project: ProjectWindows


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The routes of usage."""

    @get(
        "/usage/stats",
        summary="Usage over days",
        operation_class=described.operation(Description(query=StatsQuery, answer=UsageStats)),
    )
    async def stats(request: HttpRequest) -> Response[bytes]:
        """Show totals and days; a member sees its own key, an admin the project."""
        caller = await caller_of(request)
        query = query_of(request, StatsQuery)
        pool = services_of(request).pool
        await wait_until_folded(pool, "usage", project_id=caller.project_id)
        first, last = _span(query)
        return success(await usage_stats(pool, caller.project_id, visible_key(caller, query.key_id), first, last))

    @get(
        "/usage/costs",
        summary="Costs over days, broken down",
        operation_class=described.operation(Description(query=CostsQuery, answer=CostReport)),
    )
    async def costs(request: HttpRequest) -> Response[bytes]:
        """Show costs by model, provider, key, day, operation or a name in the metadata."""
        caller = await caller_of(request)
        query = query_of(request, CostsQuery)
        by_metadata = query.group_by.startswith(METADATA_PREFIX) and len(query.group_by) > len(METADATA_PREFIX)
        if query.group_by not in GROUPS and not by_metadata:
            raise InvalidRequest(
                f"`groupBy` is {query.group_by!r}: allowed are {', '.join(GROUPS)} and metadata.NAME", field="groupBy"
            )
        pool = services_of(request).pool
        await wait_until_folded(pool, "usage", "requests", project_id=caller.project_id)
        first, last = _span(query)
        key_id = visible_key(caller, query.key_id)
        return success(await cost_report(pool, caller.project_id, key_id, first, last, query.group_by))

    @get(
        "/usage/budget",
        summary="The key's budget",
        operation_class=described.operation(Description(query=NoQuery, answer=BudgetView)),
    )
    async def budget(request: HttpRequest) -> Response[bytes]:
        """Show what of the calling key's budget is spent, assumed, held and left."""
        caller = await caller_of(request)
        query_of(request, NoQuery)
        pool = services_of(request).pool
        await wait_until_folded(pool, "budgets", project_id=caller.project_id)
        today = day_of(datetime.now(UTC))
        settings = caller.settings
        mine = await _windows(
            pool,
            "key",
            caller.key_id,
            today,
            (settings.daily_budget_nano_usd, settings.monthly_budget_nano_usd),
        )
        project = await keys.project(pool, caller.project_id)
        assert project is not None, "a key has a project"
        shared = await _windows(
            pool,
            "project",
            caller.project_id,
            today,
            (project.daily_budget_nano_usd, project.monthly_budget_nano_usd),
        )
        installation = await _windows(
            pool, "project", caller.project_id, today, (project.installation_daily_budget_nano_usd, None)
        )
        windows = ProjectWindows(daily=shared.daily, monthly=shared.monthly, installation_daily=installation.daily)
        return success(BudgetView(daily=mine.daily, monthly=mine.monthly, project=windows))

    return [stats, costs, budget]


async def _windows(
    pool: Pool, scope: Scope, scope_id: str, today: date, limits: tuple[NanoUsd | None, NanoUsd | None]
) -> Windows:
    daily, monthly = [
        status(limit, await balance_of(pool, scope, scope_id, period, today), period, today)
        for period, limit in zip(PERIODS, limits, strict=True)
    ]
    return Windows(daily=daily, monthly=monthly)


def visible_key(caller: Caller, key_id: str | None) -> str | None:
    """The key whose figures the caller sees; None for the whole project.

    Raises:
        Forbidden: a member asks for another key's.

    """
    if caller.settings.role == "admin":
        return key_id
    if key_id not in (None, caller.key_id):
        raise Forbidden("`keyId`: a key with the role member sees itself only")
    return caller.key_id


def _span(query: StatsQuery) -> tuple[date, date]:
    today = day_of(datetime.now(UTC))
    return today - timedelta(days=query.days - 1), today
