"""The connections over which providers are called: one session for addresses that the operator vouches for, one for
those that callers gave, which lead to public machines only.
"""

import aiohttp

from infra.outbound import ConnectorLimits, check_url, open_session

LIMITS: ConnectorLimits = {"limit": 1_024, "keepalive_timeout": 30.0}
"""Connections at a time. A kept one is given up before the vendors would close it, or it might be used just then."""


class Sessions:
    """The sessions of one worker."""

    def __init__(self, *, allow_loopback: bool) -> None:
        self._allow_loopback = allow_loopback
        self._own: aiohttp.ClientSession | None = None
        self._callers: aiohttp.ClientSession | None = None

    def get(self, *, is_callers: bool) -> aiohttp.ClientSession:
        """The session for an address, opened at its first use."""
        if is_callers:
            if self._callers is None:
                self._callers = open_session(allow_loopback=self._allow_loopback, **LIMITS)
            return self._callers
        if self._own is None:
            connector = aiohttp.TCPConnector(**LIMITS)
            self._own = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._own

    def check(self, url: str) -> None:
        """Refuse an address that callers gave and that may not be called, as settings are today.

        Raises:
            InvalidRequest: why.

        """
        check_url(url, field="baseUrl", allow_loopback=self._allow_loopback)

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._own, self._callers):
            if session is not None:
                await session.close()
