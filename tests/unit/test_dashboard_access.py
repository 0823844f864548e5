"""Who may see the operator's pages without a key, and what address the pages show."""

import tomllib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute
from msgspec.structs import replace

from api.dashboard import access
from api.dashboard.errors import PAGE_HANDLERS, SIGN_IN_PATH
from api.dashboard.forms import FORM
from api.dashboard.pages.audit import export_audit, save_audit, show_audit, show_runs
from api.dashboard.rendering import NAVIGATION_STATE, template_config
from api.dashboard.router import dashboard_router
from api.dashboard.sessions import TOKEN_CHARS, SignIns
from api.dashboard.snippets import address_of_request, snippets
from api.dashboard.viewer import Viewer
from api.operator import Peer
from api.request_lifetime import BYTES_SCOPE, REQUEST_ID_SCOPE
from api.requests import CountedRequest
from domain.errors import Forbidden, Unauthorized
from infra.vault import Vault

HERE = Peer(headers={"host": "localhost:3007"}, client_host="127.0.0.1", http_version="1.1")


def sign_ins(*, master_key: str | None, keyless: bool) -> SignIns:
    nothing = cast("Any", None)  # without a token nothing is looked up
    return SignIns(nothing, nothing, Vault(bytes(32)), master_key=master_key, keyless=keyless)


async def test_without_a_master_key_this_machine_itself_sees_and_changes_nothing() -> None:
    viewer = await sign_ins(master_key=None, keyless=True).viewer(None, HERE)
    assert (viewer.role, viewer.project_id, viewer.may_change) == ("operator", None, False)


async def test_the_open_view_has_no_log() -> None:
    viewer = await sign_ins(master_key=None, keyless=True).viewer(None, HERE)
    for page in (show_audit, save_audit, export_audit, show_runs):
        with pytest.raises(Forbidden):
            await cast("Any", page.fn)(request=None, viewer=viewer, services=None)


@pytest.mark.parametrize("was_signed_in", [False, True])
async def test_the_open_view_sends_no_form_but_two(monkeypatch: pytest.MonkeyPatch, *, was_signed_in: bool) -> None:
    open_view = await sign_ins(master_key=None, keyless=True).viewer(None, HERE)
    first = replace(open_view, session_id="session_1") if was_signed_in else open_view

    async def found(_: Any, *, known: Viewer | None = None) -> Viewer:
        return first if known is None else open_view  # a session may end while its form comes

    monkeypatch.setattr(access, "find_viewer", found)
    taken, refused = set(), dict[str, str]()
    for path, handler in forms():
        request = form(f"csrf={open_view.csrf_token}")
        try:
            for guard in handler.resolve_guards():
                await guard(request, handler)  # type: ignore[misc]  # every guard of a page is a coroutine
            taken.add(path)
        except Forbidden as error:
            refused[path] = error.message
    assert taken == {"/projects", "/sign-out", SIGN_IN_PATH}  # for the last one needs no viewer
    assert len(refused) > 10
    assert [path for path, message in refused.items() if "only show" not in message] == []


def forms() -> Iterator[tuple[str, BaseRouteHandler]]:
    """Every route of the dashboard that takes a form."""
    services = {"services": Provide(lambda: None, sync_to_thread=False)}
    app = Litestar([dashboard_router()], template_config=template_config(), dependencies=services)
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            yield from ((route.path, handler) for handler in route.route_handlers if "POST" in handler.http_methods)


def form(text: str) -> CountedRequest:
    """A form that a page of this gateway sends, whose bytes are counted."""
    headers = [(b"host", b"localhost:3007"), (b"content-type", FORM.encode())]
    scope: Any = {"type": "http", "method": "POST", "headers": headers, BYTES_SCOPE: None}
    return CountedRequest.of_job(scope, cast("Any", None), text.encode())


def page_of(error: Exception, headers: list[tuple[bytes, bytes]]) -> Any:
    """What is answered to a GET that ends in an error."""
    app = SimpleNamespace(state={NAVIGATION_STATE: ()})
    scope: Any = {"type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "headers": headers}
    scope |= {"query_string": b"", "litestar_app": app, "scheme": "http", "server": ("localhost", 80)}
    scope[REQUEST_ID_SCOPE] = "req_1"
    kind: Any = HTTPException if isinstance(error, HTTPException) else type(error)
    handlers: Any = PAGE_HANDLERS
    return handlers[kind](CountedRequest(scope), error)


def test_a_page_that_takes_no_such_method_says_which_it_takes() -> None:
    answer = page_of(MethodNotAllowedException(headers={"allow": "POST"}), [])
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("url", "leads_to"),
    [
        (b"http://localhost/requests?status=failed", "/sign-in?next=%2Frequests%3Fstatus%3Dfailed"),
        (b"http://[", "/sign-in"),
    ],
)
def test_a_piece_of_a_page_leads_to_the_sign_in_whatever_address_is_shown(url: bytes, leads_to: str) -> None:
    answer = page_of(Unauthorized("no session"), [(b"hx-request", b"true"), (b"hx-current-url", url)])
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, leads_to)


@pytest.mark.parametrize(
    "peer",
    [
        Peer(headers={"host": "localhost:3007"}, client_host="10.0.0.7", http_version="1.1"),
        Peer(headers={"host": "gateway.example.com"}, client_host="127.0.0.1", http_version="1.1"),
        Peer(headers={"host": "localhost", "x-forwarded-for": "10.0.0.7"}, client_host="127.0.0.1", http_version="1.1"),
        Peer(headers={"host": "localhost", "origin": "https://evil"}, client_host="127.0.0.1", http_version="1.1"),
        Peer(headers={"host": "localhost"}, client_host="127.0.0.1", http_version="1.0"),
    ],
)
async def test_nobody_else_sees_anything_without_a_key(peer: Peer) -> None:
    with pytest.raises(Unauthorized):
        await sign_ins(master_key=None, keyless=True).viewer(None, peer)


@pytest.mark.parametrize(("master_key", "keyless"), [("a-master-key-of-the-operator", True), (None, False)])
async def test_where_there_is_a_master_key_it_is_asked_for(master_key: str | None, keyless: bool) -> None:
    with pytest.raises(Unauthorized):
        await sign_ins(master_key=master_key, keyless=keyless).viewer(None, HERE)


@pytest.mark.parametrize("token", ["a" * TOKEN_CHARS, "é" * TOKEN_CHARS, "\udcff" * TOKEN_CHARS, "a", ""])
async def test_a_token_that_somebody_made_up_is_refused_without_a_look_at_the_database(token: str) -> None:
    with pytest.raises(Unauthorized):
        await sign_ins(master_key=None, keyless=False).viewer(token, HERE)


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"host": "gateway.example.com"}, "http://gateway.example.com"),
        ({"host": "gateway.example.com", "x-forwarded-proto": "https"}, "https://gateway.example.com"),
        ({"host": "[::1]:3007"}, "http://[::1]:3007"),
        ({"host": 'x"; rm -rf /'}, "http://localhost:3007"),
        ({"host": "a b"}, "http://localhost:3007"),
        ({}, "http://localhost:3007"),
    ],
)
def test_what_is_copied_has_the_address_that_the_browser_called(headers: dict[str, str], address: str) -> None:
    assert address_of_request(headers, "http") == address


def test_what_is_copied_is_well_formed() -> None:
    texts = {one.name: one for one in snippets("https://gateway.example.com")}
    for one in texts.values():
        assert "https://gateway.example.com" in one.text
        if one.language == "python":
            compile(one.text, one.name, "exec")
    codex = tomllib.loads(texts["codex"].text)
    assert codex["model_providers"]["gateway"]["base_url"] == "https://gateway.example.com/v1"
