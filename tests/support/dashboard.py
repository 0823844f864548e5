"""A browser without a screen: signs in to the dashboard, keeps the cookie, sends forms as its pages have them."""

import re
from collections.abc import Mapping
from typing import Any

import aiohttp

from tests.support.gateway import Gateway

PAGE = {"Accept": "text/html,application/xhtml+xml"}
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')


class Browser:
    """Follows no redirects by itself; each call returns the status, the text and the headers."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._address = address
        self.cookies: dict[str, str] = {}
        self.csrf = ""
        """The token of the last page that had one."""

    async def get(self, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Load a page."""
        return await self._call("GET", path, None, headers)

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Send a form of the last page."""
        return await self._call("POST", path, {"csrf": self.csrf, **fields}, headers)

    async def sign_in(self, key: str) -> "Browser":
        """Exchange a key for a session, as the page does."""
        status, text, headers = await self._call("POST", "/sign-in", {"key": key}, {})
        assert status == 303, text
        await self.get(headers["location"])
        _, page, _ = await self.get("/sessions")
        assert _CSRF.search(page), page
        return self

    async def _call(
        self, method: str, path: str, fields: Any, headers: Mapping[str, str]
    ) -> tuple[int, str, Mapping[str, str]]:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = PAGE | ({"Cookie": cookie} if cookie else {}) | dict(headers)
        async with self._session.request(
            method, self._address + path, data=fields, headers=sent, allow_redirects=False
        ) as answer:
            for name, morsel in answer.cookies.items():
                self.cookies[name] = morsel.value
            text = await answer.text()
            if token := _CSRF.search(text):
                self.csrf = token[1]
            return answer.status, text, answer.headers


async def signed_in(gateway: Gateway, session: aiohttp.ClientSession, key: str | None = None) -> Browser:
    """Return a browser that is signed in with a key, or (None) as the operator. The session must keep no cookies."""
    return await Browser(session, gateway.address).sign_in(key or gateway.master_key)
