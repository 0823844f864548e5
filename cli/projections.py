"""`gateway projections`: list and rebuild the read models, release quarantined projects."""

from pathlib import Path

import click

from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from cli.progress import progress
from cli.terminal import show
from projections.quarantine import QuarantineChangedError, is_caused_by_data, quarantined_projects
from projections.rebuild import RebuildRunningError, TableChangedError, rebuild
from projections.registry import EVERY, FOLDED, INLINE
from projections.runner import Runner


@click.group()
def projections() -> None:
    """List and rebuild the read models; release projects."""


@projections.command("list")
@DATA_DIR
def list_projections(data_dir: Path | None) -> None:
    """Show how far each projection is behind the log.

    Quarantined projects are listed too.
    """

    async def run(session: AdminSession) -> None:
        head = await session.log.head()
        rows = await session.pool.fetch("SELECT projection, position FROM projection_checkpoints")
        positions = {row["projection"]: row["position"] for row in rows} | {one.name: head for one in INLINE}
        show(f"{'projection':<12} {'position':>10} {'behind':>8}")
        for name in EVERY:
            position = positions.get(name, 0)
            show(f"{name:<12} {position:>10} {max(0, head - position):>8}")
        for project in await quarantined_projects(session.pool):
            show(
                f"project {project.project_id} has been quarantined since {project.since:%Y-%m-%d %H:%M:%SZ}: "
                f"event {project.position} cannot be folded ({project.error})"
            )

    run_in_session(data_dir, run)


@projections.command("rebuild")
@click.argument("name", metavar="NAME")
@DATA_DIR
def rebuild_projection(name: str, data_dir: Path | None) -> None:
    """Rebuild the projection NAME from the log.

    The new tables are built beside the live ones and then replace them. Reads go on.
    """
    if name not in EVERY:
        fail(f"there is no projection {name!r}: choose one of {', '.join(EVERY)}")

    async def run(session: AdminSession) -> None:
        try:
            with progress(f"rebuild {name}") as told:
                position = await rebuild(session.pool, session.log, EVERY[name], told)
        except (RebuildRunningError, QuarantineChangedError, TableChangedError) as error:
            fail(str(error))
        show(f"rebuilt {name} from {position} events")

    run_in_session(data_dir, run, as_owner=True)


@projections.command("release")
@click.argument("project_id", metavar="PROJECT")
@DATA_DIR
def release_project(project_id: str, data_dir: Path | None) -> None:
    """Release a quarantined project.

    Folds the events of PROJECT that were left out. Do this after the cause was fixed, usually by an upgrade.
    """

    async def run(session: AdminSession) -> None:
        try:
            released = await Runner(session.pool, session.log, FOLDED).release(project_id)
        except Exception as error:
            if not is_caused_by_data(error):
                raise
            fail(f"project {project_id} stays quarantined: {type(error).__name__}: {error}")
        if released is None:
            fail(f"project {project_id} is not quarantined: `gateway projections list` shows the quarantined projects")
        show(f"released {project_id}: {released} events folded")

    run_in_session(data_dir, run, as_owner=True)
