"""The dashboard's routes, and which pages there are."""

from litestar import Router
from litestar.di import Provide

from api.dashboard.access import provide_viewer, requires_viewer
from api.dashboard.assets import serve_asset
from api.dashboard.errors import PAGE_HANDLERS
from api.dashboard.forms import MAX_FORM_BYTES
from api.dashboard.navigation import NavigationEntry
from api.dashboard.pages import (
    audit,
    budgets,
    connect,
    keys,
    overview,
    prices,
    projects,
    provider_health,
    providers,
    request,
    requests,
    routes,
    sessions,
    sign_in,
    usage,
)

PAGES = (
    overview,
    usage,
    requests,
    request,
    keys,
    projects,
    budgets,
    providers,
    provider_health,
    prices,
    routes,
    audit,
    connect,
    sessions,
)
"""The pages that need a viewer."""
NAVIGATION: tuple[NavigationEntry, ...] = tuple(
    page.NAVIGATION for page in (overview, usage, requests, keys, projects, budgets, providers, routes, audit, connect)
)
"""In the order in which the pages are linked to."""


def dashboard_router() -> Router:
    """The pages, those that everybody may see and those that need a viewer."""
    of_viewers = Router(
        "/",
        route_handlers=[handler for one in PAGES for handler in one.HANDLERS],
        guards=[requires_viewer],
        dependencies={"viewer": Provide(provide_viewer, sync_to_thread=False)},
    )
    return Router(
        "/",
        route_handlers=[serve_asset, *sign_in.HANDLERS, of_viewers],
        exception_handlers=PAGE_HANDLERS,
        request_max_body_size=MAX_FORM_BYTES,
        include_in_schema=False,
    )
