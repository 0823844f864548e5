"""`gateway credential`: add, list, change and remove further credentials of a provider."""

from pathlib import Path

import click

from api.native.credentials import CredentialChangeBody, NewCredentialBody
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.given import checked, key_in, of_project
from cli.terminal import show

_PROVIDER = click.option("--provider", required=True, help="The provider: openai, anthropic, or one that was added.")
_KEY = "Environment variable with the provider's API key."
_PROJECT = of_project("the credential is of this project's provider", "of the installation's")


@click.group()
def credential() -> None:
    """Add, list, change and remove further credentials of a provider, over which its calls are spread."""


@credential.command("add")
@click.argument("name", metavar="NAME")
@_PROVIDER
@click.option("--key-env", required=True, metavar="VARIABLE", help=_KEY)
@click.option("--weight", type=int, default=1, help="Its share of the provider's calls. [default: 1]")
@_PROJECT
@DATA_DIR
def add_credential(
    name: str, provider: str, key_env: str, weight: int, project: str | None, data_dir: Path | None
) -> None:
    """Add a credential with the name NAME."""
    body = checked({"name": name, "apiKey": key_in(key_env), "weight": weight}, NewCredentialBody)

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.credential_admin() as credentials:
            await credentials.add(owner, provider, body.name, body.api_key, body.weight)
        show(f"added {name} to {provider}")

    run_in_session(data_dir, run)


@credential.command("list")
@_PROVIDER
@_PROJECT
@DATA_DIR
def list_credentials(provider: str, project: str | None, data_dir: Path | None) -> None:
    """List the credentials of a provider. Only the last characters of a key are shown."""

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.credential_admin() as credentials:
            for one in await credentials.list_all(owner, provider):
                show(f"{one.name:<20} …{one.hint}  weight {one.weight}")

    run_in_session(data_dir, run)


@credential.command("change")
@click.argument("name", metavar="NAME")
@_PROVIDER
@click.option("--key-env", metavar="VARIABLE", help=f"{_KEY} [default: the key stays]")
@click.option("--weight", type=int, help="Its share of the provider's calls. [default: it stays]")
@_PROJECT
@DATA_DIR
def change_credential(
    name: str, provider: str, key_env: str | None, weight: int | None, project: str | None, data_dir: Path | None
) -> None:
    """Replace the key of the credential NAME, or change its weight."""
    key = key_in(key_env) if key_env is not None else None
    given = {"apiKey": key, "weight": weight}
    checked({field: value for field, value in given.items() if value is not None}, CredentialChangeBody)

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.credential_admin() as credentials:
            await credentials.change(owner, provider, name, key=key, weight=weight)
        show(f"changed {name} of {provider}")

    run_in_session(data_dir, run)


@credential.command("remove")
@click.argument("name", metavar="NAME")
@_PROVIDER
@_PROJECT
@DATA_DIR
def remove_credential(name: str, provider: str, project: str | None, data_dir: Path | None) -> None:
    """Remove the credential NAME."""

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.credential_admin() as credentials:
            await credentials.remove(owner, provider, name)
        show(f"removed {name} of {provider}")

    run_in_session(data_dir, run)
