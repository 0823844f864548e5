"""Operator access: the master key works from everywhere; this machine without a key may do only a few things."""

import pytest

from api.operator import Peer, authorize_new_project, require_metrics_access, require_operator
from domain.errors import Forbidden, Unauthorized

MASTER_KEY = "m" * 32
LOCAL = {"host": "localhost:3007", "content-type": "application/json"}


def peer(headers: dict[str, str], *, client_host: str | None = "127.0.0.1", http_version: str = "1.1") -> Peer:
    return Peer(headers=headers, client_host=client_host, http_version=http_version)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_master_key_is_the_operator() -> None:
    require_operator(bearer(MASTER_KEY), master_key=MASTER_KEY)
    require_operator({"x-api-key": MASTER_KEY}, master_key=MASTER_KEY)
    require_operator(bearer("a-login-elsewhere") | {"x-api-key": MASTER_KEY}, master_key=MASTER_KEY)


@pytest.mark.parametrize("headers", [{}, LOCAL, bearer("other"), {"authorization": f"Basic {MASTER_KEY}"}, bearer("é")])
def test_this_machine_without_the_master_key_is_not_the_operator(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        require_operator(headers, master_key=MASTER_KEY)


@pytest.mark.parametrize("headers", [LOCAL, LOCAL | bearer(MASTER_KEY)])
def test_missing_master_key_error_explains_how_to_get_one(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="GATEWAY_MASTER_KEY"):
        require_operator(headers, master_key=None)


@pytest.mark.parametrize("master_key", [None, MASTER_KEY])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:3007"},
        {"host": "[::1]:3007"},
        {"origin": "http://localhost:3007", "sec-fetch-site": "same-origin"},
    ],
)
def test_this_machine_creates_projects_without_a_key(master_key: str | None, headers: dict[str, str]) -> None:
    assert not authorize_new_project(peer(LOCAL | headers), master_key=master_key, keyless=True)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "gateway.example.com"},
        {"host": "127.0.0.1.example.com"},
        {"host": ""},
        {"content-type": "text/plain"},
        {"origin": "https://evil.example.com"},
        {"origin": "http://localhost:8080"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"forwarded": "for=10.0.0.1"},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-port": "443"},
        {"x-real-ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"cf-connecting-ip": "10.0.0.1"},
    ],
)
def test_a_page_or_a_proxy_is_not_this_machine(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        authorize_new_project(peer(LOCAL | headers), master_key=None, keyless=True)


@pytest.mark.parametrize("connection", [{"client_host": "10.0.0.1"}, {"client_host": None}, {"http_version": "1.0"}])
def test_another_machine_or_a_plain_nginx_is_not_this_machine(connection: dict[str, str | None]) -> None:
    with pytest.raises(Forbidden):
        authorize_new_project(peer(LOCAL, **connection), master_key=None, keyless=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("master_key", [None, MASTER_KEY])
@pytest.mark.parametrize("headers", [bearer("gw_live_other"), {"x-api-key": "other"}, {"authorization": "Basic eDp5"}])
def test_a_wrong_key_is_refused_where_none_would_do(headers: dict[str, str], master_key: str | None) -> None:
    with pytest.raises(Unauthorized):
        authorize_new_project(peer(LOCAL | headers), master_key=master_key, keyless=True)


def test_the_master_key_creates_projects_from_anywhere() -> None:
    remote = peer({"host": "gateway.example.com"} | bearer(MASTER_KEY), client_host="10.0.0.1")
    assert authorize_new_project(remote, master_key=MASTER_KEY, keyless=False)


def test_a_master_key_that_the_operator_chose_is_always_needed() -> None:
    with pytest.raises(Unauthorized):
        authorize_new_project(peer(LOCAL), master_key=MASTER_KEY, keyless=False)


def test_metrics_are_this_machines_without_a_token() -> None:
    require_metrics_access(peer({"host": "127.0.0.1:3007"}), token=None)
    for other in (peer({"host": "api:3007"}), peer(LOCAL, client_host="10.0.0.1"), peer(LOCAL | {"via": "1.1 p"})):
        with pytest.raises(Forbidden, match="GATEWAY_METRICS_TOKEN"):
            require_metrics_access(other, token=None)


def test_a_metrics_token_is_needed_from_everywhere() -> None:
    require_metrics_access(peer({"host": "api:3007"} | bearer("t" * 16), client_host="10.0.0.1"), token="t" * 16)
    for headers in (LOCAL, LOCAL | bearer("other")):
        with pytest.raises(Unauthorized):
            require_metrics_access(peer(headers), token="t" * 16)
