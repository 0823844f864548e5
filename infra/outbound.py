"""HTTP to addresses that callers give: only to public machines, never to our own network, never redirected.

The connection goes to the address that was resolved and checked here, so that a name cannot resolve to another address
in between (DNS rebinding).
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
"""Outside of it, IPv6 has prefixes (NAT64 among them) that embed private IPv4 addresses."""


PROTOCOL_ASSIGNMENTS = ipaddress.ip_network("192.0.0.0/24")
"""Reserved for protocols: no machine has such an address. Python 3.11 reports part of it as global."""
RESOLVER_THREADS = 16
"""The resolver has its own threads: a name server that does not answer blocks one for each name, and the look-up of the
vendors' names must not wait for it."""
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class ConnectorLimits(TypedDict, total=False):
    """Options of the connector: the maximum number of connections, and the seconds that an idle one stays open."""

    limit: int
    keepalive_timeout: float


class AddressRefused(OSError):
    """The gateway does not call this address for a caller."""


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses; with `allow_loopback` to this machine's addresses as well."""

    def __init__(self, *, allow_loopback: bool) -> None:
        self._allow_loopback = allow_loopback
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name.

        Raises:
            AddressRefused: it resolves to no address that may be called.

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
            raise AddressRefused(f"{host} resolves to no public address")
        return allowed

    async def close(self) -> None:
        """Start no more look-ups. Running ones end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def open_session(
    *, allow_loopback: bool, timeout_s: float | None = None, **connector: Unpack[ConnectorLimits]
) -> aiohttp.ClientSession:
    """Open a session for addresses that `check_url` accepted. If `timeout_s` is None, each call sets a timeout."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=PublicResolver(allow_loopback=allow_loopback), use_dns_cache=False, **connector
        ),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def check_url(url: str, *, field: str, allow_loopback: bool) -> None:
    """Refuse a URL that the gateway must not call: not https, on a private network, or with credentials in it.

    The URL is parsed by the same library as the HTTP client's. A host of digits and dots that is no valid IP address
    (`0177.0.0.1`, `2130706433`) is refused: the client does not resolve it, but the system reads it as an address.

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
            f"`{field}` may be this machine's own address only if the operator sets GATEWAY_ALLOW_LOOPBACK_URLS=yes",
            field=field,
        )
    if parts.scheme != "https" and not (is_own and parts.scheme == "http"):
        raise InvalidRequest(f"`{field}` must begin with https://", field=field)
    if not host or parts.user is not None or parts.password is not None:
        raise InvalidRequest(f"`{field}` must be an address without a user name", field=field)
    if not (":" in host or host.replace(".", "").isdigit()):
        return  # a name: its address is checked when it is called
    try:
        is_public = may_be_called(host, allow_loopback=allow_loopback)
    except ValueError:
        is_public = False
    if not is_public:
        raise InvalidRequest(f"`{field}` must be an address on the public network", field=field)


def may_be_called(address: str, *, allow_loopback: bool) -> bool:
    """Return whether an IP address is public, or a loopback address if `allow_loopback` is set."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip not in GLOBAL_UNICAST or ip.sixtofour or ip.teredo:
            return allow_loopback and ip.is_loopback
    is_public = ip.is_global and not ip.is_multicast and ip not in PROTOCOL_ASSIGNMENTS
    return is_public or (allow_loopback and ip.is_loopback)
