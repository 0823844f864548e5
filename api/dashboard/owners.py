"""Whose providers and routes a page shows: an admin sees its project's, the operator the installation's and every
project's. A member sees the routes of its project.
"""

from msgspec import Struct

from api.dashboard.navigation import ADMINS
from api.dashboard.project_choices import projects_to_choose
from api.dashboard.viewer import Viewer, ViewerRole
from api.requests import id_in_path
from api.services import Services
from domain.errors import NotFound
from domain.events import INSTALLATION


class OwnerPage(Struct, frozen=True, kw_only=True):
    """Whose: a project's id or `installation`. The operator's filter."""

    owner: str | None = None


async def requested_owner(
    services: Services, viewer: Viewer, asked: str | None, roles: tuple[ViewerRole, ...] = ADMINS
) -> str:
    """The owner that a page is asked for; without one the viewer's project, or the installation.

    Raises:
        Forbidden: the viewer has none of the roles.
        NotFound: there is no such project, or it is another's.

    """
    return await visible_owner(services, viewer, asked or viewer.project_id or INSTALLATION, roles)


async def visible_owner(services: Services, viewer: Viewer, owner: str, roles: tuple[ViewerRole, ...] = ADMINS) -> str:
    """An owner that the viewer may see. Raises as `requested_owner`."""
    viewer.require_role(*roles)
    if viewer.project_id is not None:
        if owner != viewer.project_id:
            raise NotFound("there is no such project")
        return owner
    if owner != INSTALLATION:
        await services.accounts.project(id_in_path(owner))
    return owner


async def owner_choices(services: Services, viewer: Viewer, chosen: str) -> list[tuple[str, str]]:
    """The owners that the operator may choose; empty for other viewers."""
    if viewer.role != "operator":
        return []
    named = [(one.project_id, one.name) for one in await projects_to_choose(services, chosen)]
    return [(INSTALLATION, "The installation"), *named]
