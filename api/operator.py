"""The operator's access: the master key, and the few calls that are open to this machine itself without it.

A request is this machine's own if it comes straight from a loopback connection. A reverse proxy on the same machine
that adds no header to what it forwards, and passes on the `Host` that a stranger chose, looks just like that. So no
call that is open in this way changes what others have. The dashboard's pages that are open do show whose requests there
are and what they cost, to whoever comes this way; not the log, nor its export, nor the content of a request.
"""

import hmac
from collections.abc import Mapping

from msgspec import Struct

from api.authentication import KEY_HEADERS, presented_keys
from domain.errors import Forbidden, Unauthorized
from infra.settings import is_loopback

_FORWARDING_PREFIX = "x-forwarded"
_FORWARDING = frozenset(
    (
        "cdn-loop",
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "proxy-connection",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-original-forwarded-for",
        "x-original-host",
        "x-proxyuser-ip",
        "x-real-ip",
    )
)
"""Headers that proxies add to what they forward."""
_SAME_ORIGIN = ("same-origin", "none")
"""Values of `Sec-Fetch-Site` (Fetch Metadata Request Headers) of a page that the gateway itself has served."""
_PROXY_HTTP_VERSION = "1.0"
"""nginx speaks it to what it forwards to, and names no client, unless it is configured otherwise."""
_HAS_NO_MASTER_KEY = (
    "this needs the master key, and this gateway has none: set GATEWAY_MASTER_KEY to at least 16 printable "
    "characters and start it again (`gateway up` makes one by itself)"
)


class Peer(Struct, frozen=True, kw_only=True):
    """A request's headers and the connection that it came over."""

    headers: Mapping[str, str]
    client_host: str | None
    http_version: str


def require_operator(headers: Mapping[str, str], *, master_key: str | None) -> None:
    """Require the master key.

    Raises:
        Unauthorized: it is missing or wrong.
        Forbidden: this gateway has none.

    """
    if master_key is None:
        raise Forbidden(_HAS_NO_MASTER_KEY)
    if not _has_token(headers, master_key):
        raise Unauthorized("this needs the master key: send it as 'Authorization: Bearer …'")


def authorize_new_project(peer: Peer, *, master_key: str | None, keyless: bool) -> bool:
    """Require the master key, or, if `keyless`, a request of this machine itself that presents no key. True: the
    request has the master key.

    Raises:
        Unauthorized: the presented key is not the master key, or there has to be one.
        Forbidden: the request presents no key and did not come from this machine itself.

    """
    if any(name in peer.headers for name in KEY_HEADERS):
        if master_key is None or not _has_token(peer.headers, master_key):
            raise Unauthorized("the key that this request presents is not the master key")
        return True
    if not keyless:
        raise Unauthorized("this needs the master key: send it as 'Authorization: Bearer …'")
    content_type = peer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" or not is_this_machine(peer):
        raise Forbidden(
            "without the master key only this machine itself may do this: straight to a loopback address, "
            "with content type application/json"
        )
    return False


def require_metrics_access(peer: Peer, *, token: str | None) -> None:
    """Require the metrics token, or, if there is none, a request of this machine itself.

    Raises:
        Unauthorized: the token is missing or wrong.
        Forbidden: there is no token, and the request did not come from this machine itself.

    """
    if token is not None:
        if not _has_token(peer.headers, token):
            raise Unauthorized("this needs GATEWAY_METRICS_TOKEN: send it as 'Authorization: Bearer …'")
    elif not is_this_machine(peer):
        raise Forbidden("without GATEWAY_METRICS_TOKEN only this machine itself may read this, straight from loopback")


def presents_master_key(headers: Mapping[str, str], *, master_key: str | None) -> bool:
    """True if a request presents the master key."""
    return master_key is not None and _has_token(headers, master_key)


def _has_token(headers: Mapping[str, str], token: str) -> bool:
    return any(hmac.compare_digest(key.encode(), token.encode()) for key in presented_keys(headers))


def is_own_page(headers: Mapping[str, str]) -> bool:
    """True unless a browser says that another site's page made the request (`Origin`, `Sec-Fetch-Site`)."""
    origin = headers.get("origin")
    return (origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()) and headers.get(
        "sec-fetch-site", "none"
    ) in _SAME_ORIGIN


def is_this_machine(peer: Peer) -> bool:
    """A direct loopback connection; no other site's page, whose host may have been rebound to loopback."""
    return (
        is_loopback(peer.client_host or "")
        and is_loopback(host_name(peer.headers.get("host", "")))
        and peer.http_version != _PROXY_HTTP_VERSION
        and not any(name in _FORWARDING or name.startswith(_FORWARDING_PREFIX) for name in peer.headers)
        and is_own_page(peer.headers)
    )


def host_name(host: str) -> str:
    """`localhost:3007`, `[::1]:3007` or `127.0.0.1` without its port."""
    return host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
