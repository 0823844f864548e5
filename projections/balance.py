"""Compares the costs in the read models with those in the log, and the held amounts with the attempts in flight.

Holds while requests are made: the sums of the read models and how far each is folded are read in one snapshot, and the
log is summed up to there.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from msgspec import Struct

from domain.events import AttemptLost, CostIncurred, CostReconciled
from domain.money import NanoUsd, to_usd
from infra.database import Connection, Pool, database_errors
from infra.event_log import stored_event
from infra.progress import Progress, untold
from projections.freshness import wait_until_folded
from projections.quarantine import quarantined_projects

BATCH_EVENTS = 2_000
_OF_MONEY = tuple(kind.__name__ for kind in (CostIncurred, CostReconciled, AttemptLost))
_FOLDED_BY = {"usage": "usage", "requests": "requests"} | {
    f"budgets per {scope} and {period}": "budgets" for scope in ("key", "project") for period in ("day", "month")
}
"""The projection that folds each sum."""
_SUMS = """
    SELECT 'usage' AS name, sum(cost_nano_usd) AS spent, sum(assumed_nano_usd) AS assumed FROM usage_daily
    UNION ALL
    SELECT 'requests', sum(cost_nano_usd), sum(assumed_nano_usd) FROM requests
    UNION ALL
    SELECT 'budgets per ' || scope || ' and ' || period, sum(spent_nano_usd), sum(assumed_nano_usd)
    FROM budget_balances GROUP BY scope, period
"""
_NEXT_OF_MONEY = """
    SELECT position, stream, version, type, project_id, at, data::text AS data FROM events
    WHERE position > $1 AND position <= $2 AND type = ANY ($3) ORDER BY position LIMIT $4
"""


class Sums(NamedTuple):
    """What was spent, and what is assumed of attempts whose outcome is unknown."""

    spent: NanoUsd
    assumed: NanoUsd

    def __str__(self) -> str:
        """Write them in US dollars, exactly."""
        return f"spent ${to_usd(self.spent):f}  assumed ${to_usd(self.assumed):f}"


class HeldDifference(Struct, frozen=True, kw_only=True):
    """An account whose held amount is not the sum of its attempts in flight."""

    scope: str
    scope_id: str
    budget_day: date
    counted: NanoUsd
    summed: NanoUsd


class Compared(Struct, frozen=True, kw_only=True):
    """A read model beside the log."""

    name: str
    position: int
    """Up to which event it is folded."""
    in_model: Sums
    in_log: Sums

    @property
    def agrees(self) -> bool:
        """True if both are the same."""
        return self.in_model == self.in_log


class Balance(Struct, frozen=True, kw_only=True):
    """What a comparison found."""

    compared: list[Compared]
    held: list[HeldDifference]
    left_out: list[str]
    """The projects in quarantine: their newer events are not in the read models."""

    @property
    def agrees(self) -> bool:
        """True if nothing differs."""
        return not self.held and all(one.agrees for one in self.compared)

    def lines(self) -> list[str]:
        """Say it to people: first the log, then each read model."""
        (newest, *_) = sorted(self.compared, key=lambda one: -one.position)
        lines = [f"{'log':<32} {newest.in_log}"]
        lines += [f"{one.name:<32} {one.in_model}  {_verdict(one.agrees)}" for one in self.compared]
        lines.append(f"{'held by keys and projects':<32} {_verdict(not self.held)}")
        lines += [
            f"  {one.scope} {one.scope_id} on {one.budget_day}: ${to_usd(one.counted):f}, "
            f"in flight ${to_usd(one.summed):f}"
            for one in self.held
        ]
        if self.left_out:
            names = ", ".join(self.left_out)
            lines.append(f"newer events of {names} are not in the read models: see `gateway projections list`")
        return lines


async def balance(pool: Pool, progress: Progress = untold) -> Balance:
    """Compare. `progress` counts the positions of the log that are summed.

    Raises:
        Unavailable: the read models lag too far behind, or the database is away.
        asyncpg.PostgresError: the database refuses.

    """
    await wait_until_folded(pool, *set(_FOLDED_BY.values()))
    async with database_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            folded = await _checkpoints(connection)
            models = {row["name"]: _sums(row["spent"], row["assumed"]) for row in await connection.fetch(_SUMS)}
            held = [_held(row) for row in await connection.fetch("SELECT * FROM held_differences()")]
        logged = await _sums_of_log(pool, folded, progress)
    nothing = Sums(NanoUsd(0), NanoUsd(0))
    return Balance(
        compared=[
            Compared(
                name=name,
                position=folded[projection],
                in_model=models.get(name, nothing),
                in_log=logged[folded[projection]],
            )
            for name, projection in _FOLDED_BY.items()
        ],
        held=held,
        left_out=[project.project_id for project in await quarantined_projects(pool)],
    )


async def _checkpoints(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch("SELECT projection, position FROM projection_checkpoints")
    return {row["projection"]: row["position"] for row in rows if row["projection"] in _FOLDED_BY.values()}


async def _sums_of_log(pool: Pool, folded: Mapping[str, int], progress: Progress) -> dict[int, Sums]:
    """Return the sums of the log up to each of the positions."""
    spent = assumed = position = 0
    end, sums = max(folded.values()), dict[int, Sums]()
    for cut in sorted(set(folded.values())):
        while position < cut:
            rows = await pool.fetch(_NEXT_OF_MONEY, position, cut, list(_OF_MONEY), BATCH_EVENTS)
            for row in rows:
                match stored_event(row).event:
                    case CostIncurred() | CostReconciled() as cost:
                        spent += cost.cost_nano_usd or 0
                        assumed -= cost.replaces_assumed_nano_usd
                    case AttemptLost() as lost:
                        assumed += lost.assumed_nano_usd
                    case _ as other:
                        raise AssertionError(f"{other} is not of money")
            position = rows[-1]["position"] if len(rows) == BATCH_EVENTS else cut
            progress(position, end)
        sums[cut] = Sums(NanoUsd(spent), NanoUsd(assumed))
    return sums


def _sums(spent: Any, assumed: Any) -> Sums:
    return Sums(NanoUsd(int(spent or 0)), NanoUsd(int(assumed or 0)))


def _held(row: Mapping[str, Any]) -> HeldDifference:
    return HeldDifference(
        scope=row["scope"],
        scope_id=row["scope_id"],
        budget_day=row["budget_day"],
        counted=NanoUsd(int(row["counted_nano_usd"])),
        summed=NanoUsd(int(row["summed_nano_usd"])),
    )


def _verdict(agrees: bool) -> str:
    return "agrees" if agrees else "DIFFERS"
