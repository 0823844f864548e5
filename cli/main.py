"""The `gateway` command: which subcommands there are. Each imports what it needs when it is called."""

import importlib
import socket
from pathlib import Path

import click

from infra.settings import SettingsError

_GROUPS: dict[str, tuple[str, str, str]] = {
    # name: module, attribute, help
    "project": ("cli.project", "project", "Create, list and change projects."),
    "key": ("cli.key", "key", "Issue, list and revoke API keys."),
    "provider": ("cli.provider", "provider", "Add, list and remove providers beside OpenAI and Anthropic."),
    "usage": ("cli.usage", "usage", "What was asked and what it cost."),
    "price": ("cli.price", "price", "Set prices."),
    "prices": ("cli.price", "prices", "Show prices by source."),
    "replay": ("cli.replay", "replay", "Print events in order."),
    "audit": ("cli.audit", "audit", "Verify, export and balance the log; settle assumed costs."),
    "projections": ("cli.projections", "projections", "List and rebuild the read models."),
}


class _Lazy(click.Group):
    """Knows its groups by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_GROUPS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _GROUPS:
            module, attribute, _ = _GROUPS[cmd_name]
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """One API in front of OpenAI and Anthropic: cached, costed to the nano-dollar, event-sourced."""


@main.command()
@click.option("--host", help="The address to serve (GATEWAY_HOST, 127.0.0.1).")
@click.option("--port", help="The port to serve (GATEWAY_PORT, 3007).")
@click.option("--data-dir", help="Where everything is kept (GATEWAY_DATA_DIR, .gateway).")
@click.option("--api-processes", help="How many API processes (GATEWAY_API_PROCESSES, 1).")
@click.option("--workers", help="How many workers (GATEWAY_WORKERS, 1).")
def up(**flags: object) -> None:
    """Run the whole gateway on this machine."""
    from cli.up import up as run_up  # noqa: PLC0415 - the other commands need none of it

    run_up(**flags)


@main.command()
@click.option("--host", help="The address to serve (GATEWAY_HOST, 127.0.0.1).")
@click.option("--port", help="The port to serve (GATEWAY_PORT, 3007).")
@click.option("--fd", type=int, help="A listening socket that was handed on, instead of an address.")
def api(host: str | None, port: str | None, fd: int | None) -> None:
    """Run one API process."""
    from api.process import run  # noqa: PLC0415
    from cli.processes import fail, listen, run_process, settings_for_process  # noqa: PLC0415
    from infra.settings import require_master_key, require_other_providers  # noqa: PLC0415

    settings = settings_for_process(host=host, port=port)
    try:
        require_master_key(settings)
        require_other_providers(settings)
    except SettingsError as error:
        fail(str(error))
    listener = socket.socket(fileno=fd) if fd is not None else listen(settings.host, settings.port)
    run_process(settings, "api", lambda stop: run(settings, listener, stop))


@main.command()
def worker() -> None:
    """Run one worker."""
    from cli.processes import run_process, settings_for_process  # noqa: PLC0415
    from workers.process import run  # noqa: PLC0415

    settings = settings_for_process()
    run_process(settings, "worker", lambda stop: run(settings, stop))


@main.command()
def projector() -> None:
    """Run one projector; of several, one leads."""
    from cli.processes import run_process, settings_for_process  # noqa: PLC0415
    from projections.process import run  # noqa: PLC0415

    settings = settings_for_process()
    run_process(settings, "projector", lambda stop: run(settings, stop))


@main.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Of a running `gateway up`.")
def migrate(data_dir: Path | None) -> None:
    """Bring the database to the newest revision."""
    from cli.processes import settings_for_administration  # noqa: PLC0415
    from infra.database import migrate as run_migrations  # noqa: PLC0415
    from infra.database import newest_revision  # noqa: PLC0415

    settings = settings_for_administration(data_dir)
    assert settings.database_url is not None, "found above"
    run_migrations(settings.database_url)
    click.echo(f"the database is at revision {newest_revision()}")


if __name__ == "__main__":
    main()
