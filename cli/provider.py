"""`gateway provider`: providers by configuration, from the shell."""

import os
from pathlib import Path

import click
import msgspec

from api.native.providers import NewProvider
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.processes import fail
from domain.decoding import invalid
from domain.errors import InvalidRequest
from domain.events import INSTALLATION

_PROJECT = click.option("--project", help="A project's id: its own provider, not everybody's.")


@click.group()
def provider() -> None:
    """Add, list and remove providers beside OpenAI and Anthropic."""


@provider.command()
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(["openai", "anthropic"]), help="How it is spoken to.")
@click.option("--base-url", required=True, help="As that vendor's SDK would be given it.")
@click.option("--key-env", required=True, metavar="VARIABLE", help="The environment variable that holds its key.")
@click.option("--model", "models", multiple=True, help="What may be asked of it; give it several times. Else anything.")
@click.option(
    "--replaces-builtin/--no-replaces-builtin",
    default=None,
    help="Whether it takes the requests for those of its models that are built-in names, like gpt-4o.",
)
@_PROJECT
@DATA_DIR
def add(
    name: str,
    kind: str,
    base_url: str,
    key_env: str,
    models: tuple[str, ...],
    replaces_builtin: bool | None,
    project: str | None,
    data_dir: Path | None,
) -> None:
    """Add the provider NAME, whose models are asked as NAME/model."""
    key = os.environ.get(key_env)
    if not key:
        fail(f"the environment variable {key_env} is not set")
    try:
        call = msgspec.convert(
            {
                "name": name,
                "kind": kind,
                "baseUrl": base_url,
                "apiKey": key,
                "models": models or None,
                "replacesBuiltin": replaces_builtin,
            },
            NewProvider,
        )
        asked = call.provider()
    except msgspec.ValidationError as error:
        fail(invalid(error).message)
    except InvalidRequest as error:
        fail(error.message)

    async def work(session: AdminSession) -> None:
        owner = await _owner(session, project)
        async with session.provider_settings() as settings:
            await settings.add(owner, asked, call.api_key)
        click.echo(f"{name} is asked at {asked.base_url}: {name}/{(models or ('MODEL',))[0]}")

    run_in_session(data_dir, work)


@provider.command("list")
@_PROJECT
@DATA_DIR
def every(project: str | None, data_dir: Path | None) -> None:
    """List the installation's providers, or a project's own."""

    async def work(session: AdminSession) -> None:
        owner = await _owner(session, project)
        async with session.provider_settings() as settings:
            for record in await settings.every(owner):
                one = record.provider
                shown = ", ".join(one.models) if one.models is not None else "any model"
                click.echo(f"{one.name:<20} {one.kind:<10} {one.base_url}  …{record.hint}  {shown}")

    run_in_session(data_dir, work)


@provider.command()
@click.argument("name")
@_PROJECT
@DATA_DIR
def remove(name: str, project: str | None, data_dir: Path | None) -> None:
    """Ask the provider NAME no longer."""

    async def work(session: AdminSession) -> None:
        owner = await _owner(session, project)
        async with session.provider_settings() as settings:
            await settings.remove(owner, name)
        click.echo(f"{name} is asked no longer")

    run_in_session(data_dir, work)


async def _owner(session: AdminSession, project: str | None) -> str:
    return await session.project_id(project) if project is not None else INSTALLATION
