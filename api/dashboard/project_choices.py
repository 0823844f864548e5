"""The projects that the operator's filters and forms offer: there may be any number, and every page has them."""

from api.services import Services
from projections import keys
from projections.keys import ProjectRecord

PROJECTS_TO_CHOOSE = 200
"""The newest; any other is chosen on its own page."""


async def projects_to_choose(services: Services, chosen: str | None = None) -> list[ProjectRecord]:
    """The newest projects, newest first, after the one that is chosen if it is none of them.

    Raises:
        Unavailable, Overloaded: the database cannot say.

    """
    newest = (await keys.projects(services.pool, limit=PROJECTS_TO_CHOOSE))[::-1]
    if not chosen or "\x00" in chosen or any(project.project_id == chosen for project in newest):
        return newest
    other = await keys.project(services.pool, chosen)
    return [*([other] if other is not None else []), *newest]
