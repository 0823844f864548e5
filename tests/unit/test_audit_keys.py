"""Which key signs the log, and which keys verify it."""

import base64
from pathlib import Path

import msgspec
import pytest

from infra.audit_keys import AuditKey, encode_key, is_derived, keep_public_key, signing_key, trusted_keys
from infra.private_files import UnsafePathError
from infra.settings import load_settings
from infra.vault import derive_audit_key

ENCRYPTION_KEY = b"e" * 32
OWN, FORMER = AuditKey(b"o" * 32), AuditKey(b"f" * 32)


def settings(directory: Path, **environment: str):  # type: ignore[no-untyped-def]
    return load_settings({"GATEWAY_DATA_DIR": str(directory)} | environment)


def test_without_any_key_there_is_none(tmp_path: Path) -> None:
    assert signing_key(settings(tmp_path)) is None
    assert not trusted_keys(settings(tmp_path))


def test_the_key_is_the_given_one_or_the_directorys_or_derived(tmp_path: Path) -> None:
    derived = settings(tmp_path, GATEWAY_ENCRYPTION_KEY=base64.b64encode(ENCRYPTION_KEY).decode())
    assert signing_key(derived).public == AuditKey(derive_audit_key(ENCRYPTION_KEY)).public  # type: ignore[union-attr]
    (tmp_path / "audit.key").write_text(encode_key(b"f" * 32) + "\n")
    assert signing_key(derived).public == FORMER.public  # type: ignore[union-attr]
    given = msgspec.structs.replace(derived, audit_key=b"o" * 32)
    assert signing_key(given).public == OWN.public  # type: ignore[union-attr]


def test_a_key_that_the_encryption_key_gives_away_is_known_as_such(tmp_path: Path) -> None:
    derived = settings(tmp_path, GATEWAY_ENCRYPTION_KEY=base64.b64encode(ENCRYPTION_KEY).decode())
    assert is_derived(derived, AuditKey(derive_audit_key(ENCRYPTION_KEY)))
    assert not is_derived(derived, OWN)
    assert not is_derived(settings(tmp_path), AuditKey(derive_audit_key(ENCRYPTION_KEY)))


@pytest.mark.parametrize("name", ["audit.key", "audit.pub"])
def test_no_key_is_read_through_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "planted").write_text(encode_key(b"f" * 32))
    (tmp_path / name).symlink_to(tmp_path / "planted")
    with pytest.raises(UnsafePathError, match="is a link"):
        trusted_keys(settings(tmp_path))


def test_the_derived_key_is_not_the_encryption_key() -> None:
    assert derive_audit_key(ENCRYPTION_KEY) not in (ENCRYPTION_KEY, derive_audit_key(b"x" * 32))


def test_former_keys_are_trusted_from_the_settings_and_from_the_directory(tmp_path: Path) -> None:
    keep_public_key(tmp_path, FORMER)
    keep_public_key(tmp_path, FORMER)
    assert (tmp_path / "audit.pub").read_text() == encode_key(FORMER.public) + "\n"
    known = settings(
        tmp_path,
        GATEWAY_AUDIT_KEY=encode_key(b"o" * 32),
        GATEWAY_AUDIT_PUBLIC_KEYS=encode_key(AuditKey(b"p" * 32).public),
    )
    ids = {key_id for key_id, _ in trusted_keys(known).listed()}
    assert ids == {OWN.key_id, FORMER.key_id, AuditKey(b"p" * 32).key_id}
