"""The ASGI application: routes, errors, OpenAPI. Gets its parts from `api/process.py`."""

from importlib.resources import files

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.routes import HTTPRoute
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp

from api import health
from api.metrics import Measured
from api.native import completions, keys, models, prices, projects, providers, requests, usage
from api.native.envelope import API_KEY, MASTER_KEY, Described
from api.native.errors import EXCEPTION_HANDLERS
from api.request_lifetime import RequestLifetime
from api.services import Services
from api.vendors import anthropic, openai
from api.vendors import models as vendor_models
from api.vendors.handlers import ANTHROPIC_HANDLERS, EITHER_HANDLERS, OPENAI_HANDLERS, by_path_prefix

API_VERSION = "1"
_VENDORS_PATH = "/v1"
_PAGE_PATH = "/schema"
_SWAGGER_PATH = f"{_PAGE_PATH}/swagger-ui"


def create_app(services: Services) -> ASGIApp:
    """Make the application."""
    described = Described()
    native = Router(
        "/api/v1",
        route_handlers=[
            *completions.routes(described),
            *projects.routes(described),
            *keys.routes(described),
            *providers.routes(described),
            *usage.routes(described),
            *requests.routes(described),
            *models.routes(described),
            *prices.routes(described),
        ],
    )
    operator = health.routes(described)
    app = Litestar(
        [_without_options(native), *_vendors(), *operator, _swagger_ui()],
        exception_handlers=by_path_prefix(f"{_VENDORS_PATH}/", EXCEPTION_HANDLERS),
        state=State({"services": services}),
        request_max_body_size=services.settings.max_body_bytes,
        openapi_config=OpenAPIConfig(
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
        ),
        logging_config=None,
    )
    app.openapi_schema.components = Components(
        schemas=dict(described.components()),
        security_schemes={
            API_KEY: SecurityScheme(type="http", scheme="bearer", description="A key of a project's"),
            MASTER_KEY: SecurityScheme(
                type="http",
                scheme="bearer",
                description="The operator's: GATEWAY_MASTER_KEY, or the one that `gateway up` made",
            ),
        },
    )
    return Measured(RequestLifetime(app), services.metrics)


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
        (openai.routes(), OPENAI_HANDLERS),
        (anthropic.routes(), ANTHROPIC_HANDLERS),
        (vendor_models.routes(), EITHER_HANDLERS),
    )
    return [
        Router(_VENDORS_PATH, route_handlers=routes, exception_handlers=handlers, include_in_schema=False)
        for routes, handlers in surfaces
    ]


def _swagger_ui() -> Router:
    """The page's scripts and styles from the wheel: it works where no content network can be reached."""
    return create_static_files_router(
        path=_SWAGGER_PATH, directories=[str(files("swagger_ui") / "static")], include_in_schema=False
    )
