"""`gateway projections`: how far the read models are, and how to make one anew."""

from pathlib import Path

import click

from cli.opened import DATA_DIR, Opened, run_opened
from cli.processes import fail
from projections.rebuild import RebuildRunningError, rebuild
from projections.registry import EVERY, INLINE


@click.group()
def projections() -> None:
    """List and rebuild the read models."""


@projections.command("list")
@DATA_DIR
def every(data_dir: Path | None) -> None:
    """Show each projection's position and how far it is behind the log."""

    async def work(opened: Opened) -> None:
        head = await opened.log.head()
        rows = await opened.pool.fetch("SELECT projection, position FROM projection_checkpoints")
        positions = {row["projection"]: row["position"] for row in rows} | {one.name: head for one in INLINE}
        click.echo(f"{'projection':<12} {'position':>10} {'behind':>8}")
        for name in EVERY:
            position = positions.get(name, 0)
            click.echo(f"{name:<12} {position:>10} {max(0, head - position):>8}")

    run_opened(data_dir, work)


@projections.command("rebuild")
@click.argument("name", metavar="NAME")
@DATA_DIR
def rebuild_one(name: str, data_dir: Path | None) -> None:
    """Fold the projection NAME anew beside the live one, and swap."""
    if name not in EVERY:
        fail(f"there is no projection {name!r}: there are {', '.join(EVERY)}")

    async def work(opened: Opened) -> None:
        try:
            position = await rebuild(opened.pool, opened.log, EVERY[name])
        except RebuildRunningError as error:
            fail(str(error))
        click.echo(f"rebuilt {name} from {position} events")

    run_opened(data_dir, work)
