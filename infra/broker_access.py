"""How NATS lets a process in: a user's credentials, and TLS. Makes the options of nats-py; connects to nothing."""

import base64
import re
import ssl
from pathlib import Path
from typing import Any

from msgspec import Struct

from infra.nkey import NKey

MAX_CREDENTIALS_BYTES = 64 * 1024
_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\s+(\S+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(r"-----BEGIN USER NKEY SEED-----\s+(\S+)\s+-+END USER NKEY SEED-+")
"""The parts of a credentials file, as `nsc` writes them."""


class Credentials(Struct, frozen=True, kw_only=True):
    """A user's key, with the JWT in which an account says who it is; without one, the server knows the key itself."""

    key: NKey
    jwt: str | None

    def __repr__(self) -> str:
        """Show the public key."""
        return f"Credentials({self.key!r})"


class BrokerAccess(Struct, frozen=True, kw_only=True):
    """The files with which a process identifies itself, and those by which it knows the server. None: not used."""

    credentials: Path | None = None
    """A user's JWT with its seed, as `nsc` writes them, or the seed of an NKey alone. Read for every connection."""
    ca: Path | None = None
    """The certificates of the authorities that sign the server's certificate. None: the system's."""
    certificate: Path | None = None
    """This process's own certificate, for servers that ask for one; `key` has its private key."""
    key: Path | None = None

    def options(self) -> dict[str, Any]:
        """Return the arguments for nats-py's `connect`.

        Raises:
            OSError, ssl.SSLError: a file cannot be read, or does not have what it should.

        """
        options: dict[str, Any] = {}
        if self.credentials is not None:
            options |= _signing(self.credentials)
        if self.ca is not None or self.certificate is not None:
            options["tls"] = tls_context(ca=self.ca, certificate=self.certificate, key=self.key)
        return options

    def public_key(self) -> str | None:
        """Return the NKey by which the server knows this process. None: it has none, or a JWT says it."""
        credentials = _as_they_are(self.credentials) if self.credentials is not None else None
        return credentials.key.public_key if credentials is not None and credentials.jwt is None else None


ANONYMOUS = BrokerAccess()
"""For servers that ask for nothing, or whose URL has the credentials."""


def read_credentials(path: Path) -> Credentials:
    """Read a file of `nsc`, or one with the seed of an NKey alone.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is neither.

    """
    with path.open(encoding="ascii") as file:
        text = file.read(MAX_CREDENTIALS_BYTES)
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is not None and seed is not None:
        return Credentials(key=NKey.from_seed(seed[1]), jwt=jwt[1])
    return Credentials(key=NKey.from_seed(text), jwt=None)


def _signing(path: Path) -> dict[str, Any]:
    def sign(nonce: str) -> bytes:
        return base64.b64encode(_as_they_are(path).key.sign(nonce.encode()))

    def jwt() -> bytes:
        return (_as_they_are(path).jwt or "").encode()

    return {"signature_cb": sign} | ({"user_jwt_cb": jwt} if jwt() else {})


def _as_they_are(path: Path) -> Credentials:
    """Read the credentials for a connection. A file that is being rewritten is an error after which nats-py goes on."""
    try:
        return read_credentials(path)
    except ValueError as error:
        raise OSError(f"{path} has no credentials: {error}") from error


def tls_context(*, ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return a client's TLS context. It checks the server's name and certificate.

    Raises:
        OSError, ssl.SSLError: a file cannot be read, has no certificate, or the key is not the certificate's.

    """
    context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
