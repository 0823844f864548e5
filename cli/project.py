"""`gateway project`: create, list and change projects."""

import os
from pathlib import Path

import click
import msgspec

from api.native.budgets import dollars_of, in_nano_usd
from api.native.projects import InstallationBudgetBody, NewProjectBody
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from cli.terminal import show
from domain.errors import InvalidRequest
from domain.routing import ANTHROPIC, OPENAI
from projections import keys


@click.group()
def project() -> None:
    """Create, list and change projects."""


@project.command("create")
@click.argument("name", metavar="NAME")
@click.option("--openai-key-env", metavar="VARIABLE", help="Environment variable with an OpenAI key for this project.")
@click.option(
    "--anthropic-key-env", metavar="VARIABLE", help="Environment variable with an Anthropic key for this project."
)
@DATA_DIR
def create_project(name: str, openai_key_env: str | None, anthropic_key_env: str | None, data_dir: Path | None) -> None:
    """Create a project with the name NAME.

    Its first API key, an admin key, is printed once and cannot be shown again.
    """
    body = _new_project_body(name, openai_key_env, anthropic_key_env)
    given = {OPENAI: body.openai_key, ANTHROPIC: body.anthropic_key}

    async def run(session: AdminSession) -> None:
        async with session.accounts() as accounts:
            made = await accounts.create_project(body.name, {name: key for name, key in given.items() if key})
        show(f"project  {made.project_id}  {made.name}")
        show(f"key      {made.key.key_id}  {made.key.text}  (shown this once)")

    run_in_session(data_dir, run)


@project.command("list")
@DATA_DIR
def list_projects(data_dir: Path | None) -> None:
    """List all projects with their ids."""

    async def run(session: AdminSession) -> None:
        for record in await keys.projects(session.pool):
            show(f"{record.project_id}  {record.created_at:%Y-%m-%d %H:%M}  {record.name}")

    run_in_session(data_dir, run)


@project.command("change")
@click.argument("project_id", metavar="PROJECT")
@click.option(
    "--installation-daily-budget",
    required=True,
    metavar="DOLLARS",
    help="US dollars per day that the project may spend with the installation's provider keys, or `none` for no limit.",
)
@DATA_DIR
def change_project(project_id: str, installation_daily_budget: str, data_dir: Path | None) -> None:
    """Change the budget of a project.

    PROJECT is its id. The budget is for requests with the installation's provider keys.
    """
    dollars = None if installation_daily_budget == "none" else installation_daily_budget
    try:
        body = msgspec.convert({"installationDailyBudget": dollars}, InstallationBudgetBody)
        settings = in_nano_usd({"installation_daily_budget": body.installation_daily_budget})
    except (msgspec.ValidationError, InvalidRequest):
        fail(f"--installation-daily-budget {installation_daily_budget!r}: it must be an amount in US dollars, or none")

    async def run(session: AdminSession) -> None:
        async with session.accounts() as accounts:
            record = await accounts.change_project(project_id, settings=settings, provider_keys={})
        shown = dollars_of(record.installation_daily_budget_nano_usd)
        limit = "any amount" if shown is None else f"${shown:f} per day"
        show(f"{record.project_id} may spend {limit} with the installation's provider keys")

    run_in_session(data_dir, run)


def _new_project_body(name: str, openai_key_env: str | None, anthropic_key_env: str | None) -> NewProjectBody:
    """Validate the options as the native API validates its fields."""
    values = {"name": name}
    for field, variable in (("openaiKey", openai_key_env), ("anthropicKey", anthropic_key_env)):
        if variable is not None:
            key = os.environ.get(variable)
            if not key:
                fail(f"the environment variable {variable} is not set")
            values[field] = key
    try:
        return msgspec.convert(values, NewProjectBody)
    except msgspec.ValidationError as error:
        fail(str(error))
