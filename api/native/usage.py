"""`/usage`: usage, costs, and what remains of the budgets. Includes every answer that was already sent."""

from datetime import UTC, datetime
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from msgspec import Struct

from api.authentication import Caller
from api.guards import requires_key, requires_key_or_operator
from api.native.envelope import Success
from api.native.openapi import KEY_OR_MASTER_KEY
from api.native.validation import declared_query
from api.overview import Overview, overview_of
from api.report_scope import MAX_DAYS, parse_window, visible_key, visible_scope
from api.requests import HttpRequest, id_in_path
from api.services import Services
from domain.budget import day_of
from infra.snapshot import snapshot
from projections import keys
from projections.attributes import METADATA_PREFIX
from projections.budgets import BudgetStatus, balances_of, status
from projections.freshness import wait_until_folded
from projections.reports.costs import CostReport, cost_report
from projections.reports.holds import Holds, holds
from projections.reports.limits import KeyLimits, limits_in_use
from projections.reports.refusals import RefusalReport, refusal_report
from projections.reports.scope import Window
from projections.reports.sources import GROUPS, ORIGINS, is_group
from projections.reports.usage import UsageReport, UsageStats, usage_report, usage_stats
from projections.scope import Scope

FOLDED_FOR_GROUPS = ("usage", "rollups", "totals", "attributes")
"""The projections that a report by groups reads."""
_ONE = "|".join([*GROUPS, *ORIGINS])
_METADATA = r"metadata\.[^\x00]+"
_GROUP_BY = f"^({_ONE}|{_METADATA})(,({_ONE}|{_METADATA}))?$"


class StatsQuery(Struct, frozen=True, kw_only=True):
    """`days` counts today; `from` and `to` are UTC days, both included. `keyId` narrows an admin's view, `projectId`
    the operator's.
    """

    days: Annotated[int | None, QueryParameter(ge=1, le=MAX_DAYS)] = None
    first: Annotated[str | None, QueryParameter(name="from", format="date")] = None
    last: Annotated[str | None, QueryParameter(name="to", format="date")] = None
    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None
    project_id: Annotated[str | None, QueryParameter(name="projectId")] = None


class ScopeQuery(Struct, frozen=True, kw_only=True):
    """`keyId` narrows an admin's view, `projectId` the operator's."""

    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None
    project_id: Annotated[str | None, QueryParameter(name="projectId")] = None


class BudgetQuery(Struct, frozen=True, kw_only=True):
    """`keyId`: another key of an admin's project."""

    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None


class CostsQuery(StatsQuery, frozen=True, kw_only=True):
    """Adds the group by which costs are broken down, or two."""

    group_by: Annotated[str, QueryParameter(name="groupBy", schema_extra={"pattern": _GROUP_BY})] = "model"


class BudgetWindowsOut(Struct, kw_only=True):
    """A budget's windows; null if there is no limit."""

    daily: BudgetStatus | None
    monthly: BudgetStatus | None


class ProjectWindowsOut(BudgetWindowsOut, kw_only=True, rename="camel"):
    """A project's windows, which all its keys share."""

    installation_daily: BudgetStatus | None
    """For requests under the installation's credentials. All that the project takes of a day counts in it."""


class BudgetOut(BudgetWindowsOut, kw_only=True):
    """The calling key's windows, and beside them its project's."""

    project: ProjectWindowsOut


@get(
    "/usage/stats",
    summary="Usage over days",
    operation_id="ApiV1UsageStatsStats",
    guards=[requires_key_or_operator, declared_query],
    dependencies={"period": Provide(StatsQuery, sync_to_thread=False)},
    security=KEY_OR_MASTER_KEY,
)
async def get_usage(
    request: HttpRequest, period: NamedDependency[StatsQuery], services: NamedDependency[Services]
) -> Success[UsageStats]:
    """Show totals and days; a member sees its own key, an admin the project, the operator every project."""
    scope, window = await _asked(request, services, period, "rollups", "totals")
    async with snapshot(services.pool) as pool:
        return Success(data=await usage_stats(pool, scope, window))


@get(
    "/usage/costs",
    summary="Costs over days, broken down",
    operation_id="ApiV1UsageCostsCosts",
    guards=[requires_key_or_operator, declared_query],
    dependencies={"period": Provide(CostsQuery, sync_to_thread=False)},
    security=KEY_OR_MASTER_KEY,
)
async def get_costs(
    request: HttpRequest, period: NamedDependency[CostsQuery], services: NamedDependency[Services]
) -> Success[CostReport]:
    """Show costs by model, provider, key, project, day, hour, operation, session, agent, client or a name in the
    metadata, or by two of them with a comma in between.
    """
    groups = parse_groups(period.group_by)
    scope, window = await _asked(request, services, period, *FOLDED_FOR_GROUPS)
    async with snapshot(services.pool) as pool:
        return Success(data=await cost_report(pool, scope, window, groups))


@get(
    "/usage/report",
    summary="Usage by groups, beside the time before",
    operation_id="ApiV1UsageReportReport",
    guards=[requires_key_or_operator, declared_query],
    dependencies={"period": Provide(CostsQuery, sync_to_thread=False)},
    security=KEY_OR_MASTER_KEY,
)
async def get_report(
    request: HttpRequest, period: NamedDependency[CostsQuery], services: NamedDependency[Services]
) -> Success[UsageReport]:
    """Show all figures of each group, with those of the days before: requests, tokens, money, durations, errors."""
    groups = parse_groups(period.group_by)
    scope, window = await _asked(request, services, period, *FOLDED_FOR_GROUPS)
    async with snapshot(services.pool) as pool:
        return Success(data=await usage_report(pool, scope, window, groups))


@get(
    "/usage/overview",
    summary="What is spent, and whether something is wrong",
    operation_id="ApiV1UsageOverviewOverview",
    guards=[requires_key_or_operator, declared_query],
    dependencies={"period": Provide(StatsQuery, sync_to_thread=False)},
    security=KEY_OR_MASTER_KEY,
)
async def get_overview(
    request: HttpRequest, period: NamedDependency[StatsQuery], services: NamedDependency[Services]
) -> Success[Overview]:
    """Show what is spent today and this month and will be by their ends, every cap, errors, alerts, what is away."""
    scope, window = await _asked(request, services, period, "rollups", "totals", "budgets", "alerts")
    return Success(data=await overview_of(services, scope, window))


@get(
    "/usage/budget",
    summary="The key's budget",
    operation_id="ApiV1UsageBudgetBudget",
    guards=[requires_key, declared_query],
    dependencies={"asked": Provide(BudgetQuery, sync_to_thread=False)},
)
async def get_budget(
    asked: NamedDependency[BudgetQuery], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[BudgetOut]:
    """Show what of the calling key's budget, or of another key's, is spent, assumed, held and left."""
    pool, project_id, today = services.pool, caller.project_id, day_of(datetime.now(UTC))
    key_id, settings = visible_key(caller, asked.key_id) or caller.key_id, caller.settings
    if key_id != caller.key_id:
        settings = (await services.accounts.key(project_id, id_in_path(key_id))).settings
    await wait_until_folded(pool, "budgets", project_id=project_id)
    of_key = (await balances_of(pool, "key", [key_id], today))[key_id]
    project = await keys.project(pool, project_id)
    assert project is not None, "a key has a project"
    shared = (await balances_of(pool, "project", [project_id], today))[project_id]
    return Success(
        data=BudgetOut(
            daily=status(settings.daily_budget_nano_usd, of_key["day"], "day", today),
            monthly=status(settings.monthly_budget_nano_usd, of_key["month"], "month", today),
            project=ProjectWindowsOut(
                daily=status(project.daily_budget_nano_usd, shared["day"], "day", today),
                monthly=status(project.monthly_budget_nano_usd, shared["month"], "month", today),
                installation_daily=status(project.installation_daily_budget_nano_usd, shared["day"], "day", today),
            ),
        )
    )


@get(
    "/usage/holds",
    summary="Who holds what now",
    operation_id="ApiV1UsageHoldsHolds",
    guards=[requires_key_or_operator, declared_query],
    dependencies={"asked": Provide(ScopeQuery, sync_to_thread=False)},
    security=KEY_OR_MASTER_KEY,
)
async def get_holds(
    request: HttpRequest, asked: NamedDependency[ScopeQuery], services: NamedDependency[Services]
) -> Success[Holds]:
    """Show the attempts in flight, each with the most that it may still cost; those that hold the most first."""
    return Success(data=await holds(services.pool, _scope(request, asked), datetime.now(UTC)))


@get(
    "/usage/limits",
    summary="What of the limits is in use now",
    operation_id="ApiV1UsageLimitsLimits",
    guards=[requires_key_or_operator, declared_query],
    dependencies={"asked": Provide(ScopeQuery, sync_to_thread=False)},
    security=KEY_OR_MASTER_KEY,
)
async def get_limits(
    request: HttpRequest, asked: NamedDependency[ScopeQuery], services: NamedDependency[Services]
) -> Success[list[KeyLimits]]:
    """Show the keys that use something of their limits a minute or at a time, the fullest first, at most 100."""
    return Success(data=await limits_in_use(services.pool, _scope(request, asked), datetime.now(UTC)))


@get(
    "/usage/refusals",
    summary="What budgets refused",
    operation_id="ApiV1UsageRefusalsRefusals",
    guards=[requires_key_or_operator, declared_query],
    dependencies={"period": Provide(StatsQuery, sync_to_thread=False)},
    security=KEY_OR_MASTER_KEY,
)
async def get_refusals(
    request: HttpRequest, period: NamedDependency[StatsQuery], services: NamedDependency[Services]
) -> Success[RefusalReport]:
    """Show how many requests each window refused by day, and the figures of each key's last refusal."""
    scope, window = await _asked(request, services, period, "refusals")
    return Success(data=await refusal_report(services.pool, scope, window))


HANDLERS = (get_usage, get_costs, get_report, get_overview, get_budget, get_holds, get_limits, get_refusals)


def parse_groups(text: str) -> tuple[str, ...]:
    """Read one group, or two with a comma in between.

    Raises:
        InvalidRequest: there are more.

    """
    first, comma, second = text.partition(",")
    if first.startswith(METADATA_PREFIX) and not is_group(second):  # its name may have commas
        return (text,)
    return (first, second) if comma else (first,)


def _scope(request: HttpRequest, query: ScopeQuery | StatsQuery) -> Scope:
    """What the request may see of what it asks for. Raises as `visible_scope`."""
    caller = request.user if isinstance(request.user, Caller) else None
    return visible_scope(caller, query.project_id, query.key_id)


async def _asked(
    request: HttpRequest, services: Services, query: StatsQuery, *projections: str
) -> tuple[Scope, Window]:
    """What the request asks for and may see, as soon as these projections have it."""
    scope = _scope(request, query)
    window = parse_window(query.days, query.first, query.last)
    await wait_until_folded(services.pool, *projections, project_id=scope.project_id)
    return scope, window
