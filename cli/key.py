"""`gateway key`: issue, list and revoke API keys."""

from pathlib import Path

import click
import msgspec

from api.native.keys import NewKeyBody, key_settings
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from cli.terminal import show
from domain.decoding import invalid
from domain.errors import InvalidRequest
from domain.events import KeySettings
from domain.money import NanoUsd, to_usd
from projections import keys

PROJECT = click.option("--project", help="Id of the project. Needed if there are several.")


@click.group()
def key() -> None:
    """Issue, list and revoke API keys."""


@key.command("create")
@click.argument("name", metavar="NAME")
@click.option("--role", help="member or admin. [default: member]")
@click.option("--daily-budget", help="US dollars per UTC day. 0 blocks the key. [default: no limit]")
@click.option("--monthly-budget", help="US dollars per UTC month. 0 blocks the key. [default: no limit]")
@click.option("--rate-limit", type=int, help="Requests per minute. [default: 600]")
@click.option("--token-limit", type=int, help="Tokens per minute. [default: no limit]")
@click.option("--concurrency-limit", type=int, help="Requests in flight at the same time. [default: 256]")
@click.option(
    "--output-cap",
    help="If the longest possible answer does not fit the budget: lower the output cap, or refuse. [default: lower]",
)
@click.option(
    "--budget-wait-ms",
    type=int,
    help="How long a request waits for budget that requests in flight hold, in milliseconds.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model that the key may use. Repeat the option for several. [default: all models]",
)
@click.option("--expires-at", help="When the key stops working: an ISO 8601 time with a time zone. [default: never]")
@PROJECT
@DATA_DIR
def create_key(project: str | None, data_dir: Path | None, models: tuple[str, ...], **given: object) -> None:
    """Issue a key with the name NAME. The key is printed once and cannot be shown again."""
    settings = _settings({name: value for name, value in given.items() if value is not None}, models)

    async def run(session: AdminSession) -> None:
        async with session.accounts() as accounts:
            made = await accounts.issue_key(await session.project_id(project), settings)
        show(f"key  {made.key_id}  {made.text}  (shown this once)")

    run_in_session(data_dir, run)


@key.command("list")
@PROJECT
@DATA_DIR
def list_keys(project: str | None, data_dir: Path | None) -> None:
    """List the keys of a project. Only the last characters of a key are shown."""

    async def run(session: AdminSession) -> None:
        for record in await keys.keys_of_project(session.pool, await session.project_id(project)):
            state = "  revoked" if record.revoked_at is not None else ""
            daily, monthly = record.settings.daily_budget_nano_usd, record.settings.monthly_budget_nano_usd
            shown = f"{record.settings.role:<6}  daily {_dollars(daily)}  monthly {_dollars(monthly)}"
            show(f"{record.key_id}  …{record.hint}  {shown}  {record.settings.name}{state}")

    run_in_session(data_dir, run)


@key.command("revoke")
@click.argument("key_id", metavar="KEY_ID")
@PROJECT
@DATA_DIR
def revoke_key(key_id: str, project: str | None, data_dir: Path | None) -> None:
    """Revoke the key with the id KEY_ID. This cannot be undone."""

    async def run(session: AdminSession) -> None:
        async with session.accounts() as accounts:
            record = await accounts.key(await session.project_id(project), key_id)
            await accounts.revoke_key(record)
        show(f"revoked {key_id}")

    run_in_session(data_dir, run)


def _settings(given: dict[str, object], models: tuple[str, ...]) -> KeySettings:
    """Validate the options as the native API validates its fields."""
    if models:
        given["models"] = list(models)
    names = dict(zip(NewKeyBody.__struct_fields__, NewKeyBody.__struct_encode_fields__, strict=True))
    try:
        body = msgspec.convert({names[field]: value for field, value in given.items()}, NewKeyBody, strict=False)
        return KeySettings(**key_settings({name: getattr(body, name) for name in body.__struct_fields__}))
    except msgspec.ValidationError as error:
        fail(invalid(error, NewKeyBody).message)
    except InvalidRequest as error:
        fail(error.message)


def _dollars(budget: NanoUsd | None) -> str:
    return "none" if budget is None else f"${to_usd(budget):f}"
