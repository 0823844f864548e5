"""`gateway provider`: add, list and remove providers by configuration, and show how the providers answer."""

from pathlib import Path
from typing import get_args

import click

from api.native.providers import NewProviderBody
from api.provider_health import CircuitHealth
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.given import checked, key_in, of_project
from cli.processes import fail
from cli.terminal import show
from domain.errors import InvalidRequest
from domain.events import INSTALLATION
from domain.routing import NamedKind

_PROJECT = of_project("the provider is for this project only", "for all projects")


@click.group()
def provider() -> None:
    """Add, list and remove further providers, and show how the providers answer."""


@provider.command("add")
@click.argument("name", metavar="NAME")
@click.option("--kind", required=True, type=click.Choice(get_args(NamedKind)), help="Whose API the provider has.")
@click.option("--base-url", required=True, help="The base URL that you would give to the SDK of that vendor.")
@click.option("--key-env", required=True, metavar="VARIABLE", help="Environment variable with the provider's API key.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model that callers may use. Repeat the option for several. [default: all models]",
)
@click.option(
    "--replaces-builtin/--no-replaces-builtin",
    default=None,
    help="If a model has a built-in name, such as gpt-4o: send requests for it to this provider, or not.",
)
@_PROJECT
@DATA_DIR
def add_provider(
    name: str,
    kind: str,
    base_url: str,
    key_env: str,
    models: tuple[str, ...],
    replaces_builtin: bool | None,
    project: str | None,
    data_dir: Path | None,
) -> None:
    """Add a provider with the name NAME. Callers use its models as NAME/model."""
    given = {
        "name": name,
        "kind": kind,
        "baseUrl": base_url,
        "apiKey": key_in(key_env),
        "models": models or None,
        "replacesBuiltin": replaces_builtin,
    }
    body = checked(given, NewProviderBody)
    try:
        provider = body.provider()
    except InvalidRequest as error:
        fail(error.message)

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.provider_settings() as settings:
            await settings.add(owner, provider, body.api_key)
        show(f"added {name} at {provider.base_url}: use {name}/{(models or ('MODEL',))[0]}")

    run_in_session(data_dir, run)


@provider.command("list")
@_PROJECT
@DATA_DIR
def list_providers(project: str | None, data_dir: Path | None) -> None:
    """List the providers. With --project, list the providers of that project only."""

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.provider_settings() as settings:
            for record in await settings.list_all(owner):
                one = record.provider
                shown = ", ".join(one.models) if one.models is not None else "any model"
                show(f"{one.name:<20} {one.kind:<10} {one.base_url}  …{record.hint}  {shown}")

    run_in_session(data_dir, run)


@provider.command("remove")
@click.argument("name", metavar="NAME")
@_PROJECT
@DATA_DIR
def remove_provider(name: str, project: str | None, data_dir: Path | None) -> None:
    """Remove the provider NAME."""

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.provider_settings() as settings:
            await settings.remove(owner, name)
        show(f"removed {name}")

    run_in_session(data_dir, run)


@provider.command("health")
@_PROJECT
@DATA_DIR
def show_health(project: str | None, data_dir: Path | None) -> None:
    """Show how the providers answer: a line for each model and credential that was called lately.

    With --project, show only those that are called with credentials of that project.
    """

    async def run(session: AdminSession) -> None:
        owner = await session.project_id(project) if project is not None else None
        async with session.provider_health() as health:
            circuits = await health.of(owner)
        if not circuits:
            show("no worker has called a provider lately")
        for one in circuits:
            show(_health_line(one))

    run_in_session(data_dir, run)


def _health_line(health: CircuitHealth) -> str:
    told = health.told
    whose = "" if told.key.owner == INSTALLATION else f" of {told.key.owner}"
    key = f"…{health.hint}" if health.hint else "no key"
    state = told.state.replace("_", "-") + (f" ({told.reason.replace('_', ' ')})" if told.reason is not None else "")
    probe = ""
    if told.state == "open":
        probe = f"  next probe in {told.until_in_s:.1f} s" if told.until_in_s > 0 else "  the next request probes it"
    calls = f"{health.failures} of {health.calls} calls failed"
    latency = f"  p50 {health.p50_ms} ms" if health.p50_ms is not None else ""
    last = health.last_errors[0] if health.last_errors else None
    error = f"  last error {last.code}{f' {last.status}' if last.status else ''}" if last is not None else ""
    limits = "".join(
        f"  {one.kind} left {one.remaining}{f'/{one.limit}' if one.limit else ''}" for one in health.limits
    )
    name = f"{told.key.provider}/{told.key.model}"
    return f"{name:<36} {key}{whose}  {state}{probe}  {calls}{latency}{error}{limits}"
