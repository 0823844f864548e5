"""Who may see the operator's pages without a key, and what address the pages show."""

import tomllib
from typing import Any, cast

import pytest

from api.dashboard.sessions import TOKEN_CHARS, SignIns
from api.dashboard.snippets import address_of_request, snippets
from api.operator import Peer
from domain.errors import Unauthorized
from infra.vault import Vault

HERE = Peer(headers={"host": "localhost:3007"}, client_host="127.0.0.1", http_version="1.1")


def sign_ins(*, master_key: str | None, keyless: bool) -> SignIns:
    nothing = cast("Any", None)  # without a token nothing is looked up
    return SignIns(nothing, nothing, Vault(bytes(32)), master_key=master_key, keyless=keyless)


async def test_without_a_master_key_this_machine_itself_sees_and_changes_nothing() -> None:
    viewer = await sign_ins(master_key=None, keyless=True).viewer(None, HERE)
    assert (viewer.role, viewer.project_id, viewer.may_change) == ("operator", None, False)


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
