"""The filters that the pages of reports have in common: whose usage, and of which days."""

from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict

from api.dashboard.project_choices import projects_to_choose
from api.dashboard.viewer import Viewer
from api.report_scope import parse_window
from api.services import Services
from domain.errors import InvalidRequest
from infra.database import Pool
from projections.reports.labels import name_of_key, project_of_key
from projections.reports.scope import Window
from projections.scope import Scope

RANGES: tuple[tuple[str, str], ...] = (
    ("1", "Today"),
    ("2", "2 days"),
    ("7", "7 days"),
    ("30", "30 days"),
    ("90", "90 days"),
    ("365", "365 days"),
)
"""The windows that a page offers, in days that end today. Any other can be given by `from` and `to`."""
DEFAULT_RANGE = "7"

Text = Annotated[str, Meta(max_length=200)]


class ReportFilters(Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """The filters in the URL of every report."""

    range: Annotated[str, Meta(pattern=r"^[0-9]{1,4}$")] | None = None
    first: Text | None = None
    last: Text | None = None
    project: Text | None = None
    key: Text | None = None

    def window(self) -> Window:
        """The days that are asked for.

        Raises:
            InvalidRequest: they are none.

        """
        days = None if self.first or self.last else int(self.range or DEFAULT_RANGE)
        if days == 0:
            raise InvalidRequest("`range`: it is at least one day", field="range")
        return parse_window(days, self.first, self.last)

    def query(self) -> dict[str, str]:
        """Return the filters that are set, by their names in a URL."""
        names = {"first": "from", "last": "to"}
        return {names.get(name, name): str(value) for name, value in asdict(self).items() if value is not None}


async def filtered_scope(services: Services, viewer: Viewer, asked: ReportFilters) -> Scope:
    """Return the requested scope, limited to what the viewer may see. A key's project is looked up, because reports are
    faster with both ids.
    """
    scope = viewer.scope(project_id=asked.project, key_id=asked.key)
    if scope.key_id is not None and scope.project_id is None:
        return Scope(project_id=await project_of_key(services.pool, scope.key_id), key_id=scope.key_id)
    return scope


async def choices(services: Services, viewer: Viewer, asked: ReportFilters) -> dict[str, Any]:
    """What the filters of a page show: the windows, the operator's projects, and the key that is asked for."""
    shown = (
        RANGES
        if asked.range is None or asked.range in dict(RANGES)
        else (*RANGES, (asked.range, f"{asked.range} days"))
    )
    projects = await projects_to_choose(services, asked.project) if viewer.role == "operator" else []
    return {
        "ranges": shown,
        "range": asked.range or DEFAULT_RANGE,
        "projects": [("", "All projects"), *((one.project_id, one.name) for one in projects)],
        "key_name": await key_name(services.pool, viewer.scope(project_id=asked.project), asked.key),
        "asked": asked,
    }


async def key_name(pool: Pool, scope: Scope, key_id: str | None) -> str | None:
    """Return a key's name, or its id if the key is outside the scope. The viewer learns nothing about other keys."""
    return (await name_of_key(pool, scope, key_id) or key_id) if key_id else None
