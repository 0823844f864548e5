"""`gateway project`: projects from the shell."""

import os
from pathlib import Path

import click
import msgspec

from api.native.budgets import dollars_of, in_nano_usd
from api.native.projects import InstallationBudgetChange, NewProjectCall
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from domain.errors import InvalidRequest
from domain.routing import ANTHROPIC, OPENAI
from projections import keys


@click.group()
def project() -> None:
    """Create, list and change projects."""


@project.command()
@click.argument("name")
@click.option(
    "--openai-key-env", metavar="VARIABLE", help="The environment variable that holds the project's OpenAI key."
)
@click.option("--anthropic-key-env", metavar="VARIABLE", help="The one that holds its Anthropic key.")
@DATA_DIR
def create(name: str, openai_key_env: str | None, anthropic_key_env: str | None, data_dir: Path | None) -> None:
    """Create the project NAME; its first key is printed this once."""
    call = _call(name, openai_key_env, anthropic_key_env)
    given = {OPENAI: call.openai_key, ANTHROPIC: call.anthropic_key}

    async def work(session: AdminSession) -> None:
        async with session.accounts() as accounts:
            made = await accounts.create_project(call.name, {name: key for name, key in given.items() if key})
        click.echo(f"project  {made.project_id}  {made.name}")
        click.echo(f"key      {made.key.key_id}  {made.key.text}  (shown this once)")

    run_in_session(data_dir, work)


@project.command("list")
@DATA_DIR
def every(data_dir: Path | None) -> None:
    """List the projects."""

    async def work(session: AdminSession) -> None:
        for record in await keys.projects(session.pool):
            click.echo(f"{record.project_id}  {record.created_at:%Y-%m-%d %H:%M}  {record.name}")

    run_in_session(data_dir, work)


@project.command()
@click.argument("project_id", metavar="PROJECT")
@click.option(
    "--installation-daily-budget",
    required=True,
    metavar="DOLLARS",
    help="What it may take of a day under the installation's provider keys, in US dollars; none: no limit.",
)
@DATA_DIR
def change(project_id: str, installation_daily_budget: str, data_dir: Path | None) -> None:
    """Change what the project with the id PROJECT may spend of the installation's provider keys."""
    dollars = None if installation_daily_budget == "none" else installation_daily_budget
    try:
        body = msgspec.convert({"installationDailyBudget": dollars}, InstallationBudgetChange)
        settings = in_nano_usd({"installation_daily_budget": body.installation_daily_budget})
    except (msgspec.ValidationError, InvalidRequest):
        fail(f"--installation-daily-budget {installation_daily_budget!r}: allowed are US dollars, and none")

    async def work(session: AdminSession) -> None:
        async with session.accounts() as accounts:
            record = await accounts.change_project(project_id, settings=settings, provider_keys={})
        shown = dollars_of(record.installation_daily_budget_nano_usd)
        limit = "any amount" if shown is None else f"${shown:f} a day"
        click.echo(f"{record.project_id} may spend {limit} of the installation's provider keys")

    run_in_session(data_dir, work)


def _call(name: str, openai_key_env: str | None, anthropic_key_env: str | None) -> NewProjectCall:
    """Check what was given as the native API would."""
    values = {"name": name}
    for field, variable in (("openaiKey", openai_key_env), ("anthropicKey", anthropic_key_env)):
        if variable is not None:
            key = os.environ.get(variable)
            if not key:
                fail(f"the environment variable {variable} is not set")
            values[field] = key
    try:
        return msgspec.convert(values, NewProjectCall)
    except msgspec.ValidationError as error:
        fail(str(error))
