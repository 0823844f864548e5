"""HTTP to addresses that callers give: only to public machines, never to our own network, never redirected.

Names are looked up here and the connection goes to what was found, so that a name cannot change its mind in between.
"""

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict, Unpack

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from domain.errors import InvalidRequest
from infra.settings import is_loopback

GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""Outside of it IPv6 has prefixes (NAT64 among them) in which private IPv4 addresses hide."""


PROTOCOL_ASSIGNMENTS = ipaddress.ip_network("192.0.0.0/24")
"""No machine's; not all of it is known as such to Python 3.11."""
RESOLVER_THREADS = 16
"""A name server that does not answer occupies one for each name: these are not the threads that vendors' names need."""
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class ConnectorLimits(TypedDict, total=False):
    """How many connections there may be, and how long an idle one stays open."""

    limit: int
    keepalive_timeout: float


class AddressRefused(OSError):
    """The address is not one that callers may have called."""


class PublicResolver(AbstractResolver):
    """Finds public addresses; with `allow_loopback` this machine's own as well."""

    def __init__(self, *, allow_loopback: bool) -> None:
        self._allow_loopback = allow_loopback
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Look a name up.

        Raises:
            AddressRefused: it leads nowhere that may be called.

        """
        infos = await asyncio.get_running_loop().run_in_executor(
            self._threads, socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
        allowed = [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=found_family, proto=proto, flags=_NUMERIC
            )
            for found_family, _, proto, _, address in infos
            if may_be_called(str(address[0]), allow_loopback=self._allow_loopback)
        ]
        if not allowed:
            raise AddressRefused(f"{host} leads to no public address")
        return allowed

    async def close(self) -> None:
        """Start no more look-ups; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def open_session(
    *, allow_loopback: bool, timeout_s: float | None = None, **connector: Unpack[ConnectorLimits]
) -> aiohttp.ClientSession:
    """A session for addresses that `check_url` has passed; `timeout_s` None: each call says its own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=PublicResolver(allow_loopback=allow_loopback), use_dns_cache=False, **connector
        ),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def check_url(url: str, *, field: str, allow_loopback: bool) -> None:
    """Refuse what may not be called: no https, an address of a private network, credentials in it.

    The address is read as the client reads it that will call it. A host of digits and dots that is no proper address
    (`0177.0.0.1`, `2130706433`) is refused: that client looks none of them up, and the system takes them for one.

    Raises:
        InvalidRequest: names the field.

    """
    try:
        parts = URL(url)
    except ValueError:
        raise InvalidRequest(f"`{field}` must be an address that begins with https://", field=field) from None
    host = parts.raw_host or ""
    is_own = is_loopback(host)
    if is_own and not allow_loopback:
        raise InvalidRequest(
            f"`{field}` may be this machine's own only where the operator sets GATEWAY_ALLOW_LOOPBACK_URLS=yes",
            field=field,
        )
    if parts.scheme != "https" and not (is_own and parts.scheme == "http"):
        raise InvalidRequest(f"`{field}` must begin with https://", field=field)
    if not host or parts.user is not None or parts.password is not None:
        raise InvalidRequest(f"`{field}` must be an address without a user name", field=field)
    if not (":" in host or host.replace(".", "").isdigit()):
        return  # a name: what it leads to is looked at when it is called
    try:
        is_public = may_be_called(host, allow_loopback=allow_loopback)
    except ValueError:
        is_public = False
    if not is_public:
        raise InvalidRequest(f"`{field}` must be an address on the public network", field=field)


def may_be_called(address: str, *, allow_loopback: bool) -> bool:
    """Return whether an IP address is a public machine's, or this machine's own if that is allowed."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found not in GLOBAL_UNICAST or found.sixtofour or found.teredo:
            return allow_loopback and found.is_loopback
    is_public = found.is_global and not found.is_multicast and found not in PROTOCOL_ASSIGNMENTS
    return is_public or (allow_loopback and found.is_loopback)
