"""`/usage`: usage, costs, and what remains of the budgets. Includes every answer that was already sent."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from msgspec import Struct

from api.authentication import Caller
from api.guards import requires_key
from api.native.envelope import Success
from api.native.validation import declared_query
from api.requests import id_in_path
from api.services import Services
from domain.budget import PERIODS, Scope, day_of
from domain.errors import Forbidden, InvalidRequest
from domain.money import NanoUsd
from infra.database import Pool
from projections import keys
from projections.budgets import BudgetStatus, balance_of, status
from projections.freshness import wait_until_folded
from projections.usage_reports import GROUPS, METADATA_PREFIX, ORIGINS, CostReport, UsageStats, cost_report, usage_stats

MAX_DAYS = 3_660
_GROUP_BY = f"^({'|'.join([*GROUPS, *ORIGINS])}|metadata\\.[^\\x00]+)$"


class StatsQuery(Struct, frozen=True, kw_only=True):
    """`days` counts today; `keyId` narrows an admin's view."""

    days: Annotated[int, QueryParameter(ge=1, le=MAX_DAYS)] = 30
    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None


class BudgetQuery(Struct, frozen=True, kw_only=True):
    """`keyId`: another key of an admin's project."""

    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None


class CostsQuery(StatsQuery, frozen=True, kw_only=True):
    """Adds the group by which costs are broken down."""

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
    guards=[requires_key, declared_query],
    dependencies={"period": Provide(StatsQuery, sync_to_thread=False)},
)
async def get_usage(
    period: NamedDependency[StatsQuery], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[UsageStats]:
    """Show totals and days; a member sees its own key, an admin the project."""
    await wait_until_folded(services.pool, "usage", project_id=caller.project_id)
    first, last = _span(period)
    key_id = visible_key(caller, period.key_id)
    return Success(data=await usage_stats(services.pool, caller.project_id, key_id, first, last))


@get(
    "/usage/costs",
    summary="Costs over days, broken down",
    operation_id="ApiV1UsageCostsCosts",
    guards=[requires_key, declared_query],
    dependencies={"period": Provide(CostsQuery, sync_to_thread=False)},
)
async def get_costs(
    period: NamedDependency[CostsQuery], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[CostReport]:
    """Show costs by model, provider, key, day, operation, session, agent, client or a name in the metadata."""
    group_by = period.group_by
    by_metadata = group_by.startswith(METADATA_PREFIX) and len(group_by) > len(METADATA_PREFIX)
    if group_by not in GROUPS and group_by not in ORIGINS and not by_metadata:
        allowed = ", ".join([*GROUPS, *ORIGINS])
        raise InvalidRequest(f"`groupBy` is {group_by!r}: allowed are {allowed} and metadata.NAME", field="groupBy")
    await wait_until_folded(services.pool, "usage", "requests", project_id=caller.project_id)
    first, last = _span(period)
    key_id = visible_key(caller, period.key_id)
    return Success(data=await cost_report(services.pool, caller.project_id, key_id, first, last, group_by))


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
    key_limits = (settings.daily_budget_nano_usd, settings.monthly_budget_nano_usd)
    key_windows = await _windows(pool, "key", key_id, today, key_limits)
    project = await keys.project(pool, project_id)
    assert project is not None, "a key has a project"
    project_limits = (project.daily_budget_nano_usd, project.monthly_budget_nano_usd)
    shared = await _windows(pool, "project", project_id, today, project_limits)
    installation_limits = (project.installation_daily_budget_nano_usd, None)
    installation = await _windows(pool, "project", project_id, today, installation_limits)
    windows = ProjectWindowsOut(daily=shared.daily, monthly=shared.monthly, installation_daily=installation.daily)
    return Success(data=BudgetOut(daily=key_windows.daily, monthly=key_windows.monthly, project=windows))


HANDLERS = (get_usage, get_costs, get_budget)


async def _windows(
    pool: Pool, scope: Scope, scope_id: str, today: date, limits: tuple[NanoUsd | None, NanoUsd | None]
) -> BudgetWindowsOut:
    daily, monthly = [
        status(limit, await balance_of(pool, scope, scope_id, period, today), period, today)
        for period, limit in zip(PERIODS, limits, strict=True)
    ]
    return BudgetWindowsOut(daily=daily, monthly=monthly)


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
