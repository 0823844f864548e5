"""Encryption at rest, and the hash of API keys.

The installation has one key; a key for each purpose is derived from it (HKDF-SHA-256). Values are sealed with
AES-256-GCM and a random 96-bit nonce. The tenant and the row are authenticated too, so that a sealed value that was
moved to another row does not open.
"""

import hmac
import os

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
VERSION = b"\x01"
COMPRESSION_LEVEL = 1
MAX_BODY_BYTES = 256 * 1024 * 1024
"""The largest body that a blob may decompress to."""


class VaultError(Exception):
    """A sealed value does not open: it has another key or another row, or it was changed."""


class Vault:
    """Seals and opens values with keys that are derived from the installation's key."""

    def __init__(self, installation_key: bytes) -> None:
        """Derive the keys from `installation_key`, 32 bytes."""
        assert len(installation_key) == KEY_BYTES, f"the installation's key must have {KEY_BYTES} bytes"
        self._api_keys = _derive(installation_key, b"api-key-hmac")
        self._secrets = AESGCM(_derive(installation_key, b"secrets"))
        self._webhook_key = _derive(installation_key, b"webhooks")
        self._form_key = _derive(installation_key, b"dashboard-forms")
        self._session_key = _derive(installation_key, b"dashboard-sessions")

    def api_key_hash(self, key: str) -> bytes:
        """Return the HMAC-SHA-256 of an API key. The database stores only this, not the key."""
        return hmac.digest(self._api_keys, key.encode(), "sha256")

    def webhook_secret(self, project_id: str, rotation: int = 0) -> bytes:
        """Return the key that signs a project's webhooks after so many rotations."""
        name = f"{project_id}\n{rotation}" if rotation else project_id
        return hmac.digest(self._webhook_key, name.encode(), "sha256")

    def form_token(self, session: bytes) -> str:
        """Return the text that the forms of one session of the dashboard send back."""
        return hmac.digest(self._form_key, session, "sha256").hex()

    def session_seal(self, session: str) -> str:
        """Return the text, 32 characters, by which a session's token is known to be of this installation."""
        return hmac.digest(self._session_key, session.encode(), "sha256")[:16].hex()

    def seal(self, plaintext: bytes, *, tenant: str, row: str) -> bytes:
        """Seal a secret for one row of one tenant."""
        return _seal(self._secrets, plaintext, f"{tenant}\n{row}")

    def open(self, sealed: bytes, *, tenant: str, row: str) -> bytes:
        """Open a value that `seal` returned for this row of this tenant.

        Raises:
            VaultError: it does not open.

        """
        return _open(self._secrets, sealed, f"{tenant}\n{row}")

    def new_project_key(self, project_id: str) -> bytes:
        """Return a new sealed key for a project's bodies. Once the key is erased, none of them can be opened."""
        return self.seal(os.urandom(KEY_BYTES), tenant=project_id, row="content-key")

    def open_project_key(self, sealed: bytes, project_id: str) -> bytes:
        """Open a key that `new_project_key` returned. Raises as `open`."""
        return self.open(sealed, tenant=project_id, row="content-key")

    def seal_blob(self, project_key: bytes, blob_id: str, body: bytes) -> bytes:
        """Compress and seal a body under its project's key."""
        return _seal(AESGCM(project_key), zstandard.compress(body, COMPRESSION_LEVEL), blob_id)

    def open_blob(self, project_key: bytes, blob_id: str, sealed: bytes) -> bytes:
        """Open a body that `seal_blob` sealed.

        Raises:
            VaultError: it does not open, or is larger than `MAX_BODY_BYTES`.

        """
        compressed = _open(AESGCM(project_key), sealed, blob_id)
        if zstandard.frame_content_size(compressed) > MAX_BODY_BYTES:
            raise VaultError(f"blob {blob_id} is larger than {MAX_BODY_BYTES} bytes")
        return zstandard.decompress(compressed, max_output_size=MAX_BODY_BYTES)


def derive_audit_key(installation_key: bytes) -> bytes:
    """Return the seed of the key that signs the log's heads, for installations that are given none for it."""
    return _derive(installation_key, b"audit-heads")


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"ai-gateway/" + purpose).derive(key)


def _seal(cipher: AESGCM, plaintext: bytes, row: str) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return VERSION + nonce + cipher.encrypt(nonce, plaintext, row.encode())


def _open(cipher: AESGCM, sealed: bytes, row: str) -> bytes:
    if sealed[:1] != VERSION:
        raise VaultError("a sealed value has an unknown format version")
    nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, ciphertext, row.encode())
    except InvalidTag as error:
        raise VaultError(
            "a sealed value does not open: it has another key or another row, or it was changed"
        ) from error
