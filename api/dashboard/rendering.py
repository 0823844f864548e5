"""Renders a page: its template, with the parts that all pages have, and the headers that keep it to itself.

A page loads nothing from elsewhere and runs no script but our files (`Content-Security-Policy`). Whatever providers
and callers wrote is text: the templates escape everything.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Response
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Redirect, Stream, Template
from litestar.template import TemplateConfig

from api.dashboard import amounts, figures
from api.dashboard.assets import address_of
from api.dashboard.field_words import in_words
from api.dashboard.navigation import NavigationEntry, shown_to
from api.dashboard.viewer import Viewer
from api.requests import HttpRequest
from api.vendors.paths import HOME_PATH
from domain.json_numbers import in_full

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
PAGE_HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
NAVIGATION_STATE = "dashboard_navigation"
_FILTERS = {
    "in_words": in_words,
    "money": figures.money,
    "nano": amounts.nano,
    "plain": in_full,
    "usd": figures.dollars,
    "exact_money": figures.exact_money,
    "count": figures.count,
    "short_count": figures.short_count,
    "percent": figures.percent,
    "milliseconds": figures.milliseconds,
    "in_unit": figures.in_unit,
    "moment": figures.moment,
    "machine_moment": figures.machine_moment,
}


def template_config() -> TemplateConfig[JinjaTemplateEngine]:
    """The templates: everything that they show is escaped, and a name that a page does not give is an error."""
    environment = Environment(
        loader=PackageLoader("api.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(_FILTERS)
    environment.globals["asset"] = address_of
    environment.globals["ago"] = figures.ago
    environment.globals["came_at"] = figures.came_at
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def page(
    request: HttpRequest,
    template: str,
    *,
    title: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **shown: Any,
) -> Template:
    """A page for whoever looks. `shown`: what its template names beside `title`, `viewer` and `now`."""
    user = request.scope.get("user")
    viewer = user if isinstance(user, Viewer) else None
    entries: tuple[NavigationEntry, ...] = request.app.state[NAVIGATION_STATE]
    return Template(
        template_name=template,
        status_code=status,
        headers={**PAGE_HEADERS, **(headers or {})},
        context={
            "title": title,
            "viewer": viewer,
            "navigation": shown_to(viewer, entries),
            "home": HOME_PATH,
            "path": request.scope["raw_path"].decode("latin-1").partition("?")[0],
            "now": datetime.now(UTC),
            **shown,
        },
    )


def download(content: str, *, media_type: str, file_name: str) -> Response[bytes]:
    """A file that the browser saves. `file_name`: of our own words."""
    return Response(content.encode(), media_type=media_type, headers=_file_headers(file_name))


def download_in_pieces(pieces: AsyncIterator[bytes], *, media_type: str, file_name: str) -> Stream:
    """As `download`, of a file that is too large to be made at once."""
    return Stream(pieces, media_type=media_type, headers=_file_headers(file_name))


def _file_headers(file_name: str) -> dict[str, str]:
    return {**PAGE_HEADERS, "content-disposition": f'attachment; filename="{file_name}"'}


def see(path: str, query: Mapping[str, str] | None = None) -> Redirect:
    """Lead the browser to another page, as after a form was taken."""
    return Redirect(path, status_code=303, headers=dict(PAGE_HEADERS), query_params=query)
