"""Whose providers a call is about: those of the key's project, or of the installation. Both have the same calls."""

from collections.abc import Callable, Sequence

from litestar import Router
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler

from api.authentication import Caller
from api.guards import requires_admin, requires_operator
from api.native.openapi import NEEDS_MASTER_KEY
from domain.events import INSTALLATION


def routers_of_owners(handlers: Callable[[str, str], Sequence[HTTPRouteHandler]]) -> tuple[Router, Router]:
    """The calls for a project's providers and for the installation's. Their handlers get the `owner`.

    `handlers` makes those of one owner, from the words for it and the beginning of their operations' ids.
    """
    return (
        Router(
            "/projects/providers",
            route_handlers=handlers("the key's project", "ApiV1ProjectsProviders"),
            guards=[requires_admin],
            dependencies={"owner": Provide(_project, sync_to_thread=False)},
        ),
        Router(
            "/providers",
            route_handlers=handlers("the installation", "ApiV1Providers"),
            guards=[requires_operator],
            dependencies={"owner": Provide(_installation, sync_to_thread=False)},
            security=NEEDS_MASTER_KEY,
        ),
    )


def _project(caller: NamedDependency[Caller]) -> str:
    return caller.project_id


def _installation() -> str:
    return INSTALLATION
