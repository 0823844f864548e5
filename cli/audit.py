"""`gateway audit`: proves the log, hands it out, and checks the books against it."""

import sys
from pathlib import Path

import click
import msgspec

from cli.opened import DATA_DIR, Opened, run_opened
from domain.events import AttemptLost, CostIncurred
from domain.money import NanoUsd, to_usd
from infra.log_verification import raw_events, verify
from projections.freshness import wait_until_folded

_encode = msgspec.json.Encoder().encode


@click.group()
def audit() -> None:
    """Verify, export and balance the log."""


@audit.command("verify")
@DATA_DIR
def verify_log(data_dir: Path | None) -> None:
    """Recompute the hash chain; exit 1 and name the first position that does not fit."""

    async def work(opened: Opened) -> bool:
        found = await verify(opened.pool)
        if found.first_bad is not None:
            click.echo(f"BROKEN at position {found.first_bad}: {found.reason}")
            return False
        click.echo(f"intact: {found.events} events in {found.batches} batches, head {found.head.hex()}")
        return True

    sys.exit(0 if run_opened(data_dir, work) else 1)


@audit.command()
@DATA_DIR
def export(data_dir: Path | None) -> None:
    """Print every event with its digest and the chain, one JSON object a line, for others to verify."""

    async def work(opened: Opened) -> None:
        async for event in raw_events(opened.pool):
            line = {name: getattr(event, name) for name in event.__struct_fields__}
            line |= {"data": msgspec.Raw(event.data.encode()), "digest": event.digest.hex()}
            line["chain"] = event.chain.hex() if event.chain is not None else None
            click.echo(_encode(line).decode())

    run_opened(data_dir, work)


@audit.command()
@DATA_DIR
def balance(data_dir: Path | None) -> None:
    """Add the log's costs up and compare every read model with them; exit 1 where they differ."""

    async def work(opened: Opened) -> bool:
        head = await opened.log.head()
        await wait_until_folded(opened.pool, "usage", "budgets", "requests")
        spent, assumed = await _sums_of_log(opened, head)
        agreed = True
        click.echo(f"{'log':<32} spent ${to_usd(spent):f}  assumed ${to_usd(assumed):f}")
        for name, (model_spent, model_assumed) in (await _sums_of_models(opened)).items():
            same = (model_spent, model_assumed) == (spent, assumed)
            agreed = agreed and same
            verdict = "agrees" if same else "DIFFERS"
            click.echo(f"{name:<32} spent ${to_usd(model_spent):f}  assumed ${to_usd(model_assumed):f}  {verdict}")
        return agreed

    sys.exit(0 if run_opened(data_dir, work) else 1)


async def _sums_of_log(opened: Opened, head: int) -> tuple[NanoUsd, NanoUsd]:
    position, spent, assumed = 0, 0, 0
    while position < head:
        for stored in await opened.log.read_after(position):
            position = stored.position
            match stored.event:
                case CostIncurred() as cost:
                    spent += cost.cost_nano_usd or 0
                    assumed -= cost.replaces_assumed_nano_usd
                case AttemptLost() as lost:
                    assumed += lost.assumed_nano_usd
                case _:
                    continue
    return NanoUsd(spent), NanoUsd(assumed)


async def _sums_of_models(opened: Opened) -> dict[str, tuple[NanoUsd, NanoUsd]]:
    tables = {
        "usage": "SELECT sum(cost_nano_usd) AS s, sum(assumed_nano_usd) AS a FROM usage_daily",
        "requests": "SELECT sum(cost_nano_usd) AS s, sum(assumed_nano_usd) AS a FROM requests",
    } | {
        f"budgets per {scope} and {period}": "SELECT sum(spent_nano_usd) AS s, sum(assumed_nano_usd) AS a "  # noqa: S608 - constants
        f"FROM budget_balances WHERE scope = '{scope}' AND period = '{period}'"
        for scope in ("key", "project")
        for period in ("day", "month")
    }
    sums = {name: await opened.pool.fetchrow(query) for name, query in tables.items()}
    return {name: (NanoUsd(int(row["s"] or 0)), NanoUsd(int(row["a"] or 0))) for name, row in sums.items()}
