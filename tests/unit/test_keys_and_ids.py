"""Cache keys, API keys, ids and the vault: parts do not run together, and sealed values open only in their row."""

import os
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.api_key import KEY_CHARS, SECRET_BYTES, format_api_key, is_well_formed
from domain.cache_key import cache_key, canonical_body
from domain.canonical.chat import ChatRequest, UserMessage
from domain.routing import OPENAI, Target
from infra.ids import first_id, new_id, time_of_id
from infra.vault import Vault, VaultError

PARTS = {
    "project_id": "prj_a",
    "operation": "chat",
    "provider": "openai",
    "upstream_model": "gpt-4o",
    "base_url": None,
    "body": b"{}",
}


def key_of(**changed: object) -> bytes:
    parts: dict[str, Any] = PARTS | changed
    target = Target(
        model="m",
        kind=OPENAI,
        provider=parts["provider"],
        upstream_model=parts["upstream_model"],
        base_url=parts["base_url"],
    )
    return cache_key(project_id=parts["project_id"], operation=parts["operation"], target=target, body=parts["body"])


@pytest.mark.parametrize("part", list(PARTS))
def test_every_part_of_the_request_is_in_the_cache_key(part: str) -> None:
    assert key_of() != key_of(**{part: b"{ }" if part == "body" else "other"})


def test_parts_of_a_cache_key_do_not_run_together() -> None:
    assert key_of(provider="ab", upstream_model="c") != key_of(provider="a", upstream_model="bc")


def test_equal_requests_have_equal_bytes() -> None:
    one = ChatRequest(messages=[UserMessage(content="x")], temperature=0.5, max_tokens=3)
    other = ChatRequest(max_tokens=3, temperature=0.5, messages=[UserMessage(content="x")])
    assert canonical_body(one) == canonical_body(other)


@given(st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES), st.integers(8, KEY_CHARS - 1))
def test_a_mistyped_key_is_refused_before_anything_is_looked_up(randomness: bytes, at: int) -> None:
    key = format_api_key(randomness)
    assert len(key) == KEY_CHARS == 44
    assert is_well_formed(key)
    wrong = key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :]
    assert not is_well_formed(wrong)


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    made = [new_id("req") for _ in range(2000)]
    assert len(set(made)) == 2000
    assert [one[:12] for one in made] == sorted(one[:12] for one in made)
    assert {len(one) for one in made} == {30}


def test_a_sealed_secret_opens_in_its_own_row_only() -> None:
    vault = Vault(bytes(32))
    sealed = vault.seal(b"sk-secret", tenant="prj_a", row="provider-key/openai")
    assert b"sk-secret" not in sealed
    assert vault.open(sealed, tenant="prj_a", row="provider-key/openai") == b"sk-secret"
    for tenant, row in (("prj_b", "provider-key/openai"), ("prj_a", "provider-key/anthropic")):
        with pytest.raises(VaultError):
            vault.open(sealed, tenant=tenant, row=row)
    with pytest.raises(VaultError):
        Vault(b"\x01" * 32).open(sealed, tenant="prj_a", row="provider-key/openai")
    with pytest.raises(VaultError):
        vault.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), tenant="prj_a", row="provider-key/openai")


def test_a_body_opens_with_its_projects_key_only() -> None:
    vault = Vault(os.urandom(32))
    ours = vault.open_project_key(vault.new_project_key("prj_a"), "prj_a")
    theirs = vault.open_project_key(vault.new_project_key("prj_b"), "prj_b")
    sealed = vault.seal_blob(ours, "blob_1", b"answer " * 1000)
    assert len(sealed) < 1000
    assert vault.open_blob(ours, "blob_1", sealed) == b"answer " * 1000
    for key, blob_id in ((theirs, "blob_1"), (ours, "blob_2")):
        with pytest.raises(VaultError):
            vault.open_blob(key, blob_id, sealed)


def test_an_id_tells_when_it_was_made_and_other_texts_tell_nothing() -> None:
    at = datetime(2026, 11, 26, 6, 5, 38, 297_000, tzinfo=UTC)
    assert time_of_id(first_id("req", at)) == at
    assert [time_of_id(text) for text in ("req_", "", "req_1", "req_" + "u" * 26, "req_" + "z" * 26)] == [None] * 5
