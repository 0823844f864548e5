"""`gateway route`: set, list, show and remove routes."""

from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from api.native.routes import NewRouteBody, route_out, settings_of
from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.given import checked, of_project
from cli.processes import fail
from cli.terminal import show, show_json
from domain.errors import InvalidRequest
from domain.routes import FailoverCause, RouteTarget

NEXT_GROUP = "then"
_PROJECT = of_project("the route is for this project only", "for all projects")
_TARGET_FIELDS = ("weight", "timeoutS", "firstByteTimeoutS", "idleTimeoutS", "credential")


@click.group()
def route() -> None:
    """Set, list, show and remove routes: names that requests give as their model."""


@route.command("set")
@click.argument("name", metavar="NAME")
@click.argument("targets", metavar="TARGET [TARGET|then]...", nargs=-1, required=True)
@click.option(
    "--fail-over-on",
    "causes",
    multiple=True,
    type=click.Choice(get_args(FailoverCause)),
    help="Why the next target is tried. Repeat the option for several. [default: connection, timeout, rate_limit, "
    "server_error]",
)
@click.option("--attempts", type=int, help="Attempts at one target, before the next is tried. [default: 2]")
@_PROJECT
@DATA_DIR
def set_route(
    name: str,
    targets: tuple[str, ...],
    causes: tuple[str, ...],
    attempts: int | None,
    project: str | None,
    data_dir: Path | None,
) -> None:
    """Make the route NAME, or give it other targets.

    A TARGET is a model, with what else is to be set behind commas: gpt-4o,weight=3,timeoutS=20,credential=eu. Targets
    share the requests by their weights; those after the word `then` are tried if none of those before can answer.
    """
    given: dict[str, Any] = {"name": name, "groups": _groups(targets)}
    if causes:
        given["failOverOn"] = causes
    if attempts is not None:
        given["attempts"] = attempts
    try:
        settings = settings_of(checked(given, NewRouteBody, strict=False))
    except InvalidRequest as error:
        fail(error.message)

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.route_admin() as routes:
            await routes.set_route(owner, name, settings)
        show(f"set {name}: {_shown(settings.groups)}")

    run_in_session(data_dir, run)


@route.command("list")
@_PROJECT
@DATA_DIR
def list_routes(project: str | None, data_dir: Path | None) -> None:
    """List the routes. With --project, list the routes of that project only."""

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.route_admin() as routes:
            for record in await routes.list_all(owner):
                show(f"{record.name:<20} {_shown(record.settings.groups)}")

    run_in_session(data_dir, run)


@route.command("show")
@click.argument("name", metavar="NAME")
@_PROJECT
@DATA_DIR
def show_route(name: str, project: str | None, data_dir: Path | None) -> None:
    """Show the route NAME as JSON."""

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.route_admin() as routes:
            record = await routes.get(owner, name)
        show_json(msgspec.json.encode(route_out(record)).decode())

    run_in_session(data_dir, run)


@route.command("remove")
@click.argument("name", metavar="NAME")
@_PROJECT
@DATA_DIR
def remove_route(name: str, project: str | None, data_dir: Path | None) -> None:
    """Remove the route NAME."""

    async def run(session: AdminSession) -> None:
        owner = await session.owner(project)
        async with session.route_admin() as routes:
            await routes.remove(owner, name)
        show(f"removed {name}")

    run_in_session(data_dir, run)


def _groups(words: tuple[str, ...]) -> list[list[dict[str, str]]]:
    groups: list[list[dict[str, str]]] = [[]]
    for word in words:
        if word == NEXT_GROUP:
            groups.append([])
        else:
            groups[-1].append(_target(word))
    return groups


def _target(word: str) -> dict[str, str]:
    model, *settings = word.split(",")
    given = {"model": model}
    for setting in settings:
        field, _, value = setting.partition("=")
        if field not in _TARGET_FIELDS or not value:
            allowed = ", ".join(f"{one}=…" for one in _TARGET_FIELDS)
            fail(f"{setting!r} is nothing that a target has: allowed are {allowed}")
        given[field] = value
    return given


def _shown(groups: tuple[tuple[RouteTarget, ...], ...]) -> str:
    return f" {NEXT_GROUP} ".join(", ".join(map(_shown_target, group)) for group in groups)


def _shown_target(target: RouteTarget) -> str:
    notes = [f"weight {target.weight}"] if target.weight != 1 else []
    if target.timeout_s is not None:
        notes.append(f"{target.timeout_s:g} s")
    if target.first_byte_timeout_s is not None:
        notes.append(f"first byte {target.first_byte_timeout_s:g} s")
    if target.idle_timeout_s is not None:
        notes.append(f"idle {target.idle_timeout_s:g} s")
    if target.credential is not None:
        notes.append(f"credential {target.credential}")
    return f"{target.model} ({', '.join(notes)})" if notes else target.model
