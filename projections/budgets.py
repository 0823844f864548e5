"""Budget balances: the spent and the assumed cost of each key and project, by UTC day and month.

Held amounts are not folded: they are counted with the rows of `inflight`, the live ledger of attempts.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from operator import add

from msgspec import Struct

from domain.budget import PERIODS, Period, Scope, resets_at, window_start
from domain.events import AttemptLost, CostIncurred, CostReconciled, Event, StoredEvent
from domain.money import ZERO, NanoUsd, to_usd
from infra.database import Connection, Pool, database_errors
from projections.rows import RowType
from projections.sums import add_to

_GROUP = {"scope": "text", "scope_id": "text", "period": "text", "starts_on": "date"}
_ROW = RowType(
    "budget_balances_row",
    _GROUP
    | {"project_id": "text"}
    | dict.fromkeys(("spent_nano_usd", "assumed_nano_usd", "overage_nano_usd"), "bigint"),
)


class Balance(Struct, frozen=True, kw_only=True):
    """A window of a budget."""

    spent_nano_usd: NanoUsd = ZERO
    assumed_nano_usd: NanoUsd = ZERO
    held_nano_usd: NanoUsd = ZERO


class BudgetStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """A window of a budget as its owner sees it, in US dollars: `remaining` = limit - spent - assumed - held."""

    limit: Decimal
    spent: Decimal
    assumed: Decimal
    held: Decimal
    remaining: Decimal
    resets_at: datetime


class Budgets:
    """Folds costs and assumed costs into the windows that they are charged to."""

    name = "budgets"
    tables = ("budget_balances",)
    reads: frozenset[type[Event]] = frozenset({CostIncurred, CostReconciled, AttemptLost})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Add the amounts up by key and day, then by window."""
        charged: defaultdict[tuple[str, str, date], list[int]] = defaultdict(lambda: [0, 0, 0])
        for stored in events:
            overage = 0
            match stored.event:
                case CostIncurred() as event:
                    spent, assumed = event.cost_nano_usd or 0, -event.replaces_assumed_nano_usd
                    overage = max(0, spent - event.hold_nano_usd)
                case CostReconciled() as event:
                    spent, assumed = event.cost_nano_usd, -event.replaces_assumed_nano_usd
                case AttemptLost() as event:
                    spent, assumed = 0, event.assumed_nano_usd
                case _:
                    continue
            amounts = charged[stored.project_id, event.key_id, event.budget_day]
            amounts[0] += spent
            amounts[1] += assumed
            amounts[2] += overage
        sums: defaultdict[tuple[str, str, Period, date, str], tuple[int, ...]] = defaultdict(lambda: (0, 0, 0))
        for (project_id, key_id, day), amounts in charged.items():
            for scope, scope_id in (("key", key_id), ("project", project_id)):
                for period in PERIODS:
                    window = (scope, scope_id, period, window_start(day, period), project_id)
                    sums[window] = tuple(map(add, sums[window], amounts))
        await add_to(
            connection,
            f"budget_balances{suffix}",
            _ROW,
            _GROUP,
            ((*window, *amounts) for window, amounts in sums.items()),
        )


async def balances_of(
    pool: Pool, scope: Scope, scope_ids: Sequence[str], day: date
) -> dict[str, dict[Period, Balance]]:
    """Return the balances of both windows that contain `day`, for each of several keys or projects."""
    starts = [window_start(day, period) for period in PERIODS]
    async with database_errors():
        rows = await pool.fetch(
            "SELECT a.scope_id, w.period, coalesce(b.spent_nano_usd, 0) AS spent, coalesce(b.assumed_nano_usd, 0) AS "
            "assumed, (SELECT coalesce(sum(h.held_nano_usd), 0) FROM held_amounts h WHERE h.scope = $1 "
            "AND h.scope_id = a.scope_id AND h.budget_day >= w.starts_on AND h.budget_day < w.ends_on) AS held "
            "FROM unnest($2::text[]) AS a (scope_id) "
            "CROSS JOIN unnest($3::text[], $4::date[], $5::date[]) AS w (period, starts_on, ends_on) "
            "LEFT JOIN budget_balances b ON b.scope = $1 AND b.scope_id = a.scope_id AND b.period = w.period "
            "AND b.starts_on = w.starts_on",
            scope,
            scope_ids,
            PERIODS,
            starts,
            [resets_at(start, period).date() for start, period in zip(starts, PERIODS, strict=True)],
        )
    balances: dict[str, dict[Period, Balance]] = {scope_id: {} for scope_id in scope_ids}
    for row in rows:
        balances[row["scope_id"]][row["period"]] = Balance(
            **{f"{name}_nano_usd": NanoUsd(int(row[name])) for name in ("spent", "assumed", "held")}
        )
    return balances


async def total_overage(pool: Pool) -> NanoUsd:
    """Return by how much responses have cost more than their holds, over all time. If it is not 0, a bound is wrong."""
    async with database_errors():
        overage: Decimal = await pool.fetchval(
            "SELECT coalesce(sum(overage_nano_usd), 0) FROM budget_balances "
            "WHERE scope = 'project' AND period = 'month'"
        )
    return NanoUsd(int(overage))


def status(limit: NanoUsd | None, balance: Balance, period: Period, day: date) -> BudgetStatus | None:
    """Return the window as its owner sees it; None if there is no limit."""
    if limit is None:
        return None
    taken = balance.spent_nano_usd + balance.assumed_nano_usd + balance.held_nano_usd
    return BudgetStatus(
        limit=to_usd(limit),
        spent=to_usd(balance.spent_nano_usd),
        assumed=to_usd(balance.assumed_nano_usd),
        held=to_usd(balance.held_nano_usd),
        remaining=to_usd(NanoUsd(limit - taken)),
        resets_at=resets_at(window_start(day, period), period),
    )
