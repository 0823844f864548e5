"""The `gateway` command and its subcommands. Each subcommand imports its modules when it is called."""

import importlib
import socket
from pathlib import Path

import click

from cli.plain_structlog import import_plain_structlog

_PROCESSES = ("up", "api", "worker", "projector", "migrate")
_STARTS_FORK_SERVER = "up"
"""The command that starts the fork server before it imports anything."""
_GROUPS: dict[str, tuple[str, str]] = {
    # name: module, attribute
    "project": ("cli.project", "project"),
    "key": ("cli.key", "key"),
    "provider": ("cli.provider", "provider"),
    "credential": ("cli.credential", "credential"),
    "route": ("cli.route", "route"),
    "doctor": ("cli.doctor", "doctor"),
    "jobs": ("cli.jobs", "jobs"),
    "usage": ("cli.usage", "usage"),
    "price": ("cli.price", "price"),
    "prices": ("cli.price", "prices"),
    "replay": ("cli.replay", "replay"),
    "audit": ("cli.audit", "audit"),
    "projections": ("cli.projections", "projections"),
}


class _LazyGroup(click.Group):
    """A group that imports a subcommand only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return [*_PROCESSES, *_GROUPS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != _STARTS_FORK_SERVER:
            import_plain_structlog()
        if cmd_name in _GROUPS:
            module, attribute = _GROUPS[cmd_name]
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A gateway in front of OpenAI, Anthropic and compatible providers: keys, budgets, caching and exact costs.

    Start with `gateway up`. The settings are environment variables; `.env` is read too.
    """


@main.command()
@click.option("--host", help="Address to listen on. [env: GATEWAY_HOST; default: 127.0.0.1]")
@click.option("--port", help="Port to listen on. [env: GATEWAY_PORT; default: 3007]")
@click.option("--data-dir", help="Directory for all data. [env: GATEWAY_DATA_DIR; default: .gateway]")
@click.option("--api-processes", help="Number of API processes. [env: GATEWAY_API_PROCESSES; default: 1]")
@click.option("--workers", help="Number of worker processes. [env: GATEWAY_WORKERS; default: 1]")
def up(**flags: object) -> None:
    """Run the whole gateway on this machine.

    Starts PostgreSQL, NATS, the API, a worker and the projector. The first start prints an API key. Ctrl-C stops it.
    """
    from cli.fork_server import ForkServer  # noqa: PLC0415 - the other commands need none of it

    with ForkServer() as fork_server:  # it imports while all else starts
        import_plain_structlog()
        from cli.up import up as run_up  # noqa: PLC0415

        run_up(fork_server, **flags)


@main.command()
@click.option("--host", help="Address to listen on. [env: GATEWAY_HOST; default: 127.0.0.1]")
@click.option("--port", help="Port to listen on. [env: GATEWAY_PORT; default: 3007]")
@click.option("--fd", type=int, help="File descriptor of a listening socket, instead of an address.")
def api(host: str | None, port: str | None, fd: int | None) -> None:
    """Run one API process. For production, with PostgreSQL and NATS servers of your own."""
    from api.process import run  # noqa: PLC0415
    from cli.processes import fail, listen  # noqa: PLC0415
    from cli.run_process import run_process, settings_for_process  # noqa: PLC0415
    from infra.settings import SettingsError, require_master_key, require_other_providers  # noqa: PLC0415

    settings = settings_for_process(host=host, port=port, sends_telemetry=True)
    try:
        require_master_key(settings)
        require_other_providers(settings)
    except SettingsError as error:
        fail(str(error))
    listener = socket.socket(fileno=fd) if fd is not None else listen(settings.host, settings.port)
    run_process(settings, "api", lambda stop: run(settings, listener, stop))


@main.command("fork-server", hidden=True)
@click.option("--orders", type=int, required=True)
def fork_server(orders: int) -> None:
    """Fork the processes of `gateway up`."""
    from cli.fork_server import serve_forks  # noqa: PLC0415

    main(serve_forks(orders))


@main.command()
def worker() -> None:
    """Run one worker process. It calls the providers."""
    from cli.run_process import run_process, settings_for_process  # noqa: PLC0415
    from workers.process import run  # noqa: PLC0415

    settings = settings_for_process(sends_telemetry=True)
    run_process(settings, "worker", lambda stop: run(settings, stop))


@main.command()
def projector() -> None:
    """Run one projector process. It keeps the read models up to date; of several, one is active."""
    from cli.run_process import run_process, settings_for_process  # noqa: PLC0415
    from projections.process import run  # noqa: PLC0415

    settings = settings_for_process(audit_key_serves=True)
    run_process(settings, "projector", lambda stop: run(settings, stop))


@main.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the running `gateway up`. [env: GATEWAY_DATA_DIR; default: .gateway]",
)
def migrate(data_dir: Path | None) -> None:
    """Migrate the database to the newest revision."""
    from cli.processes import settings_for_administration  # noqa: PLC0415
    from cli.progress import progress  # noqa: PLC0415
    from infra.database import migrate as run_migrations  # noqa: PLC0415
    from infra.database import newest_revision  # noqa: PLC0415

    settings = settings_for_administration(data_dir)
    assert settings.owner_url is not None, "settings_for_administration has it"
    was_due = False
    with progress("migrate", "revisions") as told:

        def note(done: int, total: int) -> None:
            nonlocal was_due
            was_due = True
            told(done, total)

        problems = run_migrations(settings.owner_url, settings.database_roles, settings.role, note)
    click.echo(f"the database is at revision {newest_revision()}{'' if was_due else ': it was there already'}")
    for problem in problems:
        click.echo(f"warning: {problem}: see docs/how-to/separate-database-roles.md", err=True)


if __name__ == "__main__":
    main()
