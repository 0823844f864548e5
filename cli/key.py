"""`gateway key`: API keys from the shell."""

from pathlib import Path

import click
import msgspec

from api.native.keys import NewKeyCall, key_settings
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from domain.decoding import invalid
from domain.errors import InvalidRequest
from domain.events import KeySettings
from domain.money import NanoUsd, to_usd
from projections import keys

PROJECT = click.option("--project", help="The project's id; needed where there are several.")


@click.group()
def key() -> None:
    """Issue, list and revoke API keys."""


@key.command()
@click.argument("name")
@click.option("--role", help="member or admin.")
@click.option("--daily-budget", help="US dollars a UTC day; 0 blocks.")
@click.option("--monthly-budget", help="US dollars a UTC month; 0 blocks.")
@click.option("--rate-limit", type=int, help="Requests a minute.")
@click.option("--token-limit", type=int, help="Tokens a minute.")
@click.option("--concurrency-limit", type=int, help="Requests at a time.")
@click.option("--output-cap", help="lower or refuse: what to do where the model's longest answer does not fit.")
@click.option("--budget-wait-ms", type=int, help="How long to wait for what other requests hold.")
@click.option("--model", "models", multiple=True, help="A model that it may use; repeat for several.")
@click.option("--expires-at", help="An ISO time with a time zone.")
@PROJECT
@DATA_DIR
def create(project: str | None, data_dir: Path | None, models: tuple[str, ...], **given: object) -> None:
    """Issue the key NAME; its text is printed this once."""
    settings = _settings({name: value for name, value in given.items() if value is not None}, models)

    async def work(session: AdminSession) -> None:
        async with session.accounts() as accounts:
            made = await accounts.issue_key(await session.project_id(project), settings)
        click.echo(f"key  {made.key_id}  {made.text}  (shown this once)")

    run_in_session(data_dir, work)


@key.command("list")
@PROJECT
@DATA_DIR
def every(project: str | None, data_dir: Path | None) -> None:
    """List the project's keys, without their texts."""

    async def work(session: AdminSession) -> None:
        for record in await keys.keys_of_project(session.pool, await session.project_id(project)):
            state = "revoked" if record.revoked_at is not None else record.settings.role
            daily, monthly = record.settings.daily_budget_nano_usd, record.settings.monthly_budget_nano_usd
            budgets = f"daily {_dollars(daily)}  monthly {_dollars(monthly)}"
            click.echo(f"{record.key_id}  …{record.hint}  {state:<7}  {budgets}  {record.settings.name}")

    run_in_session(data_dir, work)


@key.command()
@click.argument("key_id")
@PROJECT
@DATA_DIR
def revoke(key_id: str, project: str | None, data_dir: Path | None) -> None:
    """Revoke the key KEY_ID, for good."""

    async def work(session: AdminSession) -> None:
        async with session.accounts() as accounts:
            record = await accounts.key(await session.project_id(project), key_id)
            await accounts.revoke_key(record)
        click.echo(f"revoked {key_id}")

    run_in_session(data_dir, work)


def _settings(given: dict[str, object], models: tuple[str, ...]) -> KeySettings:
    """Check what was given as the native API would."""
    if models:
        given["models"] = list(models)
    names = dict(zip(NewKeyCall.__struct_fields__, NewKeyCall.__struct_encode_fields__, strict=True))
    try:
        call = msgspec.convert({names[field]: value for field, value in given.items()}, NewKeyCall, strict=False)
        return KeySettings(**key_settings({name: getattr(call, name) for name in call.__struct_fields__}))
    except msgspec.ValidationError as error:
        fail(invalid(error).message)
    except InvalidRequest as error:
        fail(error.message)


def _dollars(budget: NanoUsd | None) -> str:
    return "none" if budget is None else f"${to_usd(budget):f}"
