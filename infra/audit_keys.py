"""The key that signs the log's heads (Ed25519), and the public keys that they are verified with.

The signing key is never in the database. It is `GATEWAY_AUDIT_KEY`, or the file that `gateway up` has made in its
directory, or else it is derived from the encryption key, so that all machines with that key sign alike; then API
processes and workers, which have the encryption key, could sign too.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec.structs import replace

from domain.log_head import LogPosition, SignedHead, signed_text
from infra.private_files import open_private, read_private
from infra.settings import Settings
from infra.vault import derive_audit_key

AUDIT_KEY_BYTES = 32
KEY_FILE = "audit.key"
PUBLIC_KEYS_FILE = "audit.pub"
"""In the data directory, a line for each key that ever signed: those of former keys still verify what they signed."""
KEY_ID_HEX_DIGITS = 16
DERIVED_ADVICE = "API processes and workers could sign the log with GATEWAY_ENCRYPTION_KEY: set GATEWAY_AUDIT_KEY"


class AuditKey:
    """The key that signs."""

    def __init__(self, seed: bytes) -> None:
        """Make it from its seed, 32 bytes."""
        assert len(seed) == AUDIT_KEY_BYTES, f"the key must have {AUDIT_KEY_BYTES} bytes"
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public)

    def __repr__(self) -> str:
        """Hides the key."""
        return f"AuditKey({self.key_id})"

    def sign(
        self,
        at_head: LogPosition,
        *,
        sequence: int,
        previous: bytes,
        at: datetime,
        resumes_after: int | None = None,
        reason: str = "",
    ) -> SignedHead:
        """Return the signed head of a log that has this digest at this position."""
        unsigned = SignedHead(
            sequence=sequence,
            position=at_head.position,
            digest=at_head.digest,
            at=at,
            previous=previous,
            resumes_after=resumes_after,
            reason=reason,
            key_id=self.key_id,
            signature=b"",
        )
        return replace(unsigned, signature=self._key.sign(signed_text(unsigned)))


class TrustedKeys:
    """The public keys whose signatures count."""

    def __init__(self, public_keys: Iterable[bytes]) -> None:
        """Trust these keys, 32 bytes each."""
        self._keys = {key_id_of(key): Ed25519PublicKey.from_public_bytes(key) for key in public_keys}

    def listed(self) -> list[tuple[str, str]]:
        """Return the id of each key, and the key in base64."""
        return [(key_id, encode_key(key.public_bytes_raw())) for key_id, key in self._keys.items()]

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._keys)

    def __contains__(self, key_id: object) -> bool:
        """Return whether there is a key with this id."""
        return key_id in self._keys

    def fault_of(self, head: SignedHead) -> str | None:
        """Return why a head's signature does not count; None if it does."""
        key = self._keys.get(head.key_id)
        if key is None:
            return f"is signed with an unknown key, {head.key_id}"
        try:
            key.verify(head.signature, signed_text(head))
        except InvalidSignature:
            return f"has a signature that is not key {head.key_id}'s"
        return None


def key_id_of(public_key: bytes) -> str:
    """Return the id of a key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:KEY_ID_HEX_DIGITS]


def signing_key(settings: Settings) -> AuditKey | None:
    """Return the key of this installation; None if there is none. Raises as `signing_seed`."""
    seed = signing_seed(settings)
    return AuditKey(seed) if seed is not None else None


def signing_seed(settings: Settings) -> bytes | None:
    """Return the seed of the key that signs, 32 bytes: the setting, or the directory's file, or a derived one.

    None if the settings have neither a key nor the encryption key, and there is no file.

    Raises:
        ValueError: the file holds no key.
        UnsafePathError: the file is not ours alone.

    """
    if settings.audit_key is not None:
        return settings.audit_key
    if (text := read_private(settings.data_dir / KEY_FILE)) is not None:
        return decode_key(text.decode("ascii", errors="replace"))
    return derive_audit_key(settings.encryption_key) if settings.encryption_key is not None else None


def is_derived(settings: Settings, key: AuditKey) -> bool:
    """Return whether whoever has the encryption key, such as an API process or a worker, has the key that signs."""
    return (
        settings.encryption_key is not None and key.public == AuditKey(derive_audit_key(settings.encryption_key)).public
    )


def trusted_keys(settings: Settings) -> TrustedKeys:
    """Return the keys of this installation: the one that signs, former ones in the settings and in the directory.

    Raises as `signing_seed`, of the files with the keys.
    """
    own = signing_key(settings)
    former = (*settings.audit_public_keys, *map(decode_key, _kept(settings.data_dir)))
    return TrustedKeys((own.public, *former) if own is not None else former)


def keep_public_key(data_dir: Path, key: AuditKey) -> None:
    """Add a key to those that the data directory knows, unless it is there.

    Raises:
        UnsafePathError: the file is not ours alone.

    """
    written = encode_key(key.public)
    if written not in _kept(data_dir):
        with os.fdopen(open_private(data_dir / PUBLIC_KEYS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file:
            file.write(f"{written}\n".encode())


def _kept(data_dir: Path) -> list[str]:
    """Read the public keys that the data directory knows. Raises UnsafePathError."""
    return (read_private(data_dir / PUBLIC_KEYS_FILE) or b"").decode("ascii", errors="replace").split()


def encode_key(key: bytes) -> str:
    """Write a key in base64."""
    return base64.b64encode(key).decode()


def decode_key(text: str) -> bytes:
    """Read a key that `encode_key` wrote.

    Raises:
        ValueError: it is none.

    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != AUDIT_KEY_BYTES:
        raise ValueError(f"a text that is not {AUDIT_KEY_BYTES} bytes in base64")
    return key
