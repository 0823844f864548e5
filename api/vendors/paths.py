"""From the path that a vendor's client calls to the one that is served: its base URL may end in `/v1` or not.

OpenAI's clients append `/chat/completions` to their base URL, Anthropic's `/v1/messages`, Azure's
`/openai/deployments/MODEL/chat/completions`; people write each base URL with `/v1` and without. No two calls have the
same name, so that the name alone says which is meant. Any call that is answered to GET is answered to HEAD as well.
"""

from collections.abc import Awaitable, Iterable
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

VENDORS_PATH = "/v1"
HOME_PATH = "/overview"
"""What a browser gets at `/`. Programs get there what they get at any path without a route."""
MODEL_SCOPE = "gateway.model_in_path"
"""The model of a request whose path names it."""
MAX_PREFIXES = 4
"""`/openai/v1/v1` has three."""

_PREFIXES = frozenset({"v1", "openai", "anthropic"})
"""What may stand in front of a call."""
_CALLS = frozenset({"chat", "completions", "embeddings", "messages", "models", "moderations", "responses"})
"""The first words of the calls' names."""
_MODEL_FIRST = frozenset({"deployments", "engines"})
"""Azure's and OpenAI's older paths: the word, the model, the call."""
_CALLS_OF_A_MODEL = (("chat", "completions"), ("completions",), ("embeddings",), ("responses",))
_AS_SERVED = frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/v1/models", "/v1/responses"})
_NATIVE = "/api/"
"""Most requests have one of these paths, or one that begins so: they are not looked at twice."""
_VENDORS_HEADERS = frozenset({b"anthropic-version", b"x-stainless-lang"})
"""Sent by the vendors' own clients, wherever they call."""


class VendorPaths:
    """Passes every request on under the path that is served."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on. The server keeps its own scope: it sends no body to HEAD. `raw_path` stays as it was called."""
        if scope["type"] == ScopeType.HTTP:
            path, model = served_path(scope["path"])
            if path == "/" and scope["method"] == "GET" and is_browser(scope["headers"]):
                path = HOME_PATH
            changes: dict[str, Any] = {"path": path} if path != scope["path"] else {}
            if model is not None:
                changes[MODEL_SCOPE] = model
            if scope["method"] == "HEAD":
                changes["method"] = "GET"
            if changes:
                scope = cast("Scope", {**scope, **changes})
        return self._app(scope, receive, send)


def served_path(path: str) -> tuple[str, str | None]:
    """The path that is served for one that a client calls, and the model that it names, if it does.

    A path that is no call of a vendor's stays as it is.
    """
    if path in _AS_SERVED or path.startswith(_NATIVE):
        return path, None
    words = [word for word in path.split("/") if word]
    start = 0
    while start < min(len(words), MAX_PREFIXES) and words[start] in _PREFIXES:
        start += 1
    call = words[start:]
    if call and call[0] in _CALLS:
        return "/".join((VENDORS_PATH, *call)), None
    if call and call[0] in _MODEL_FIRST:
        for name in _CALLS_OF_A_MODEL:
            model = "/".join(call[1 : -len(name)])
            if model and tuple(call[-len(name) :]) == name:
                return "/".join((VENDORS_PATH, *name)), model
    return path, None


def is_browser(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """True for a request that wants a page, or a part of one (htmx), and is of no vendor's client."""
    wants_page = False
    for name, value in headers:
        if name in _VENDORS_HEADERS:
            return False
        wants_page = wants_page or name == b"hx-request" or (name == b"accept" and b"text/html" in value)
    return wants_page


def is_vendors(path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """True for a request that only a client of a vendor makes, even if nothing is served at its path."""
    first = path.lstrip("/").partition("/")[0]
    return first in _PREFIXES or any(name in _VENDORS_HEADERS for name, _ in headers)
