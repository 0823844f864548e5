"""`gateway usage`: requests, tokens and costs of a project, as a table."""

from datetime import UTC, datetime
from pathlib import Path

import click

from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from cli.terminal import show
from domain.budget import day_of
from projections.attributes import METADATA_PREFIX
from projections.freshness import wait_until_folded
from projections.reports.costs import cost_report
from projections.reports.scope import last_days
from projections.reports.sources import GROUPS, ORIGINS, is_group
from projections.scope import Scope

MAX_DAYS = 3_660


@click.command()
@click.option(
    "--days",
    type=click.IntRange(1, MAX_DAYS),
    default=30,
    show_default=True,
    help="Number of UTC days, including today.",
)
@click.option(
    "--group-by", default="model", show_default=True, help=f"One of {', '.join([*GROUPS, *ORIGINS])}, metadata.NAME."
)
@click.option("--project", help="Id of the project. Needed if there are several.")
@DATA_DIR
def usage(days: int, group_by: str, project: str | None, data_dir: Path | None) -> None:
    """Show the requests, tokens and costs of a project."""
    if not is_group(group_by) or group_by == "hour":
        fail(f"--group-by is {group_by!r}: it must be one of {', '.join([*GROUPS, *ORIGINS])}, metadata.NAME")

    async def run(session: AdminSession) -> None:
        project_id = await session.project_id(project)
        await wait_until_folded(session.pool, "rollups", "totals", "usage", "attributes")
        today = day_of(datetime.now(UTC))
        report = await cost_report(session.pool, Scope(project_id=project_id), last_days(days, today), (group_by,))
        field = "metadata" if group_by.startswith(METADATA_PREFIX) else group_by
        show(f"{group_by:<32} {'requests':>9} {'cached':>7} {'tokens in':>11} {'tokens out':>11} {'cost $':>16}")
        for line in report.breakdown:
            tokens = f"{line.prompt_tokens:>11} {line.completion_tokens:>11}"
            name = str(getattr(line, field))
            unpriced = f"  and {line.unpriced_requests} of unknown cost" if line.unpriced_requests else ""
            show(f"{name:<32} {line.requests:>9} {line.cached_requests:>7} {tokens} {line.cost:>16f}{unpriced}")
        show(f"total ${report.total_cost:f}, assumed ${report.assumed_cost:f}, saved ${report.saved_cost:f}")

    run_in_session(data_dir, run)
