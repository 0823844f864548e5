"""The ASGI application: routes, errors, OpenAPI. Gets its parts from `api/process.py`."""

from importlib import import_module
from importlib.resources import files

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.routes import HTTPRoute
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp

from api import health
from api.dashboard.errors import find_reader, with_pages_for_browsers
from api.dashboard.rendering import NAVIGATION_STATE, template_config
from api.dashboard.router import NAVIGATION, dashboard_router
from api.guards import provide_caller
from api.hot_calls import HotCalls
from api.native import (
    audit,
    completions,
    credentials,
    jobs,
    keys,
    models,
    prices,
    project_keys,
    projects,
    provider_health,
    providers,
    requests,
    route_plans,
    routes,
    usage,
)
from api.native.envelope import NativeResponse
from api.native.errors import EXCEPTION_HANDLERS
from api.native.openapi import API_KEY, NATIVE_PATH, MsgspecSchemas, NativeDocuments
from api.native.validation import StrictBody
from api.request_lifetime import RequestLifetime, note_failure
from api.requests import CountedRequest
from api.services import Services
from api.vendors import anthropic, openai, responses
from api.vendors import models as vendor_models
from api.vendors.handlers import ANTHROPIC_HANDLERS, EITHER_HANDLERS, OPENAI_HANDLERS, for_paths_without_a_route
from api.vendors.paths import VENDORS_PATH, VendorPaths
from infra.settings.limits import DEFAULT_MAX_BODY_BYTES

API_VERSION = "1"
MAX_SETTINGS_BODY_BYTES = 256 * 1024
"""Of the calls that set something up; a key with a hundred long names of models has 150 KiB. Bodies are decoded in the
event loop, and anybody on this machine may send one to create a project.
"""
_PAGE_PATH = "/schema"
_SWAGGER_PATH = f"{_PAGE_PATH}/swagger-ui"


_IMPORTED_AT_FIRST_USE = ("uvicorn.lifespan.on", "anyio._backends._asyncio")
"""Modules that uvicorn and Litestar import at their first use. That took 50 ms and 2 MB of each API process."""
_prepared: dict[int, Litestar] = {}


def prepare() -> None:
    """Make the routes for the default settings, which `create_app` takes, and import what libraries import when they
    are first used: what is forked from here starts sooner.
    """
    for module in _IMPORTED_AT_FIRST_USE:
        import_module(module)
    _prepared[DEFAULT_MAX_BODY_BYTES] = _application(DEFAULT_MAX_BODY_BYTES)


def create_app(services: Services) -> ASGIApp:
    """Make the application. Its OpenAPI document is made when it is first asked for."""
    max_body_bytes = services.settings.max_body_bytes
    app = _prepared.pop(max_body_bytes, None) or _application(max_body_bytes)
    app.state.services = services
    lifetime = RequestLifetime(HotCalls(app), services.metrics, services.log, services.access_log, services.observer)
    return VendorPaths(lifetime)


def _services(state: State) -> Services:
    services: Services = state.services
    return services


def _application(max_body_bytes: int) -> Litestar:
    schemas = MsgspecSchemas(*completions.OPENAPI_TYPES)
    return Litestar(
        [_without_options(_native(max_body_bytes)), *_vendors(), *health.HANDLERS, dashboard_router(), _swagger_ui()],
        dependencies={
            "services": Provide(_services, sync_to_thread=False),
            "caller": Provide(provide_caller, sync_to_thread=False),
        },
        exception_handlers=with_pages_for_browsers(for_paths_without_a_route(EXCEPTION_HANDLERS)),
        request_class=CountedRequest,
        state=State({NAVIGATION_STATE: NAVIGATION}),
        request_max_body_size=max_body_bytes,
        openapi_config=_openapi_config(schemas),
        plugins=[schemas],
        template_config=template_config(),
        logging_config=None,
        after_exception=[note_failure, find_reader],
    )


def _native(max_body_bytes: int) -> Router:
    settings = Router(
        "/",
        route_handlers=[
            *projects.HANDLERS,
            *keys.HANDLERS,
            *project_keys.HANDLERS,
            *providers.ROUTERS,
            *credentials.ROUTERS,
            *routes.HANDLERS,
            *provider_health.HANDLERS,
            *usage.HANDLERS,
            *requests.HANDLERS,
            *audit.HANDLERS,
            *models.HANDLERS,
            *prices.HANDLERS,
        ],
        request_max_body_size=min(MAX_SETTINGS_BODY_BYTES, max_body_bytes),
    )
    return Router(
        NATIVE_PATH,
        route_handlers=[*completions.HANDLERS, settings, *route_plans.HANDLERS, *jobs.HANDLERS],
        dto=StrictBody,
        exception_handlers=EXCEPTION_HANDLERS,
        response_class=NativeResponse,
    )


def _openapi_config(schemas: MsgspecSchemas) -> OpenAPIConfig:
    return NativeDocuments(
        schemas=schemas,
        title="AI Gateway",
        version=API_VERSION,
        path=_PAGE_PATH,
        security=[{API_KEY: []}],
        render_plugins=[
            SwaggerRenderPlugin(
                js_url=f"{_SWAGGER_PATH}/swagger-ui-bundle.js",
                css_url=f"{_SWAGGER_PATH}/swagger-ui.css",
                standalone_preset_js_url=f"{_SWAGGER_PATH}/swagger-ui-standalone-preset.js",
                favicon=f"<link rel='icon' href='{_SWAGGER_PATH}/favicon-32x32.png'>",
            )
        ],
    )


def _without_options(router: Router) -> Router:
    """Litestar answers OPTIONS when a path has its first route, and says nothing of those that join later. Left out
    here, that answer is made anew by the application, which has them all.
    """
    for one in router.routes:
        if isinstance(one, HTTPRoute):
            one.route_handlers = [handler for handler in one.route_handlers if handler.http_methods != {"OPTIONS"}]
    return router


def _vendors() -> list[Router]:
    """The vendors' surfaces, each with its own words for what goes wrong."""
    surfaces = (
        ((*openai.routes(), *responses.routes()), OPENAI_HANDLERS),
        (anthropic.routes(), ANTHROPIC_HANDLERS),
        (vendor_models.HANDLERS, EITHER_HANDLERS),
    )
    return [
        Router(VENDORS_PATH, route_handlers=routes, exception_handlers=handlers, include_in_schema=False)
        for routes, handlers in surfaces
    ]


def _swagger_ui() -> Router:
    """The page's scripts and styles from the wheel: it works where no content network can be reached."""
    return create_static_files_router(
        path=_SWAGGER_PATH, directories=[str(files("swagger_ui") / "static")], include_in_schema=False
    )
