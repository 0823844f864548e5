"""Users of NATS in every form that a server knows: a password, an NKey, and JWTs that an operator has signed."""

import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from infra.nkey import Kind, NKey


class Operator(Struct, frozen=True, kw_only=True):
    """What a server and a client need where an operator signs accounts, and accounts sign users."""

    server_lines: str
    credentials: str
    """As `nsc` writes them: the user's JWT and the seed of its NKey."""


def new_nkey(kind: Kind = "user") -> NKey:
    """Return a new key."""
    return NKey(os.urandom(32), kind)


def new_operator() -> Operator:
    """Return an operator with one account that may use JetStream, and a user of it."""
    operator, account, system, user = new_nkey("operator"), new_nkey("account"), new_nkey("account"), new_nkey()
    counts = ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "streams", "consumer")
    limits = dict.fromkeys(counts, -1) | {"wildcards": True}
    claims = {
        account.public_key: {"limits": limits | {"mem_storage": -1, "disk_storage": -1}},
        system.public_key: {"limits": limits},
    }
    preload = "\n".join(f"  {name}: {_jwt(operator, 'account', name, limited)}" for name, limited in claims.items())
    signed = _jwt(operator, "operator", operator.public_key, {"system_account": system.public_key})
    user_jwt = _jwt(account, "user", user.public_key, {"subs": -1, "data": -1, "payload": -1})
    return Operator(
        server_lines=f"operator: {signed}\nsystem_account: {system.public_key}\nresolver: MEMORY\n"
        f"resolver_preload: {{\n{preload}\n}}\n",
        credentials=f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n",
    )


def write_secret(path: Path, text: str) -> Path:
    """Write a file that only its owner can read."""
    path.touch(0o600)
    path.write_text(text)
    return path


def _jwt(issuer: NKey, kind: str, subject: str, claims: dict[str, Any]) -> str:
    """A JWT in the form of NATS, version 2: signed with Ed25519, its `jti` the hash of its claims."""
    body = {"iat": int(time.time()), "iss": issuer.public_key, "name": kind, "sub": subject} | {
        "nats": {"type": kind, "version": 2} | claims
    }
    body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
    signed = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(body)}"
    return f"{signed}.{base64.urlsafe_b64encode(issuer.sign(signed.encode())).decode().rstrip('=')}"


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
