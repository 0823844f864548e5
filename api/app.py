"""The ASGI application: routes, errors, the request's id, OpenAPI. Gets its parts from `api/process.py`."""

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import StoplightRenderPlugin
from litestar.openapi.spec import Components
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry

from api import health
from api.metrics import Measured
from api.native import completions, keys, models, projects, requests, usage
from api.native.envelope import Described
from api.native.errors import EXCEPTION_HANDLERS
from api.requests import REQUEST_ID_SCOPE
from api.services import Services
from infra.ids import new_id

API_VERSION = "1"


def create_app(services: Services) -> ASGIApp:
    """Make the application."""
    described = Described()
    metrics = CollectorRegistry()
    native = Router(
        "/api/v1",
        route_handlers=[
            *completions.routes(described),
            *projects.routes(described),
            *keys.routes(described),
            *usage.routes(described),
            *requests.routes(described),
            *models.routes(described),
        ],
    )
    operator = health.routes(described, metrics)
    app = Litestar(
        [native, *operator],
        exception_handlers=EXCEPTION_HANDLERS,
        state=State({"services": services}),
        request_max_body_size=services.settings.max_body_bytes,
        openapi_config=OpenAPIConfig(
            title="AI Gateway",
            version=API_VERSION,
            path="/schema",
            render_plugins=[StoplightRenderPlugin()],
        ),
        logging_config=None,
    )
    app.openapi_schema.components = Components(schemas=dict(described.components()))
    return Measured(RequestIds(app), metrics)


class RequestIds:
    """Gives every request an id, and every answer the header with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with the id in the scope."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        scope[REQUEST_ID_SCOPE] = request_id  # type: ignore[literal-required]  # ours, beside ASGI's
        header = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], header]
            await send(message)

        await self._app(scope, receive, send_with_id)
