"""The table of environment variables: what each sets, how it is read, what is allowed. Used by `infra/settings.py`."""

import base64
import binascii
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

ENCRYPTION_KEY_BYTES = 32
MIN_TOKEN_CHARS = 16


class Variable(Struct, frozen=True):
    """An environment variable, and the field of `Settings` that it sets."""

    field: str
    name: str
    what: str
    read: Callable[[str], Any]
    allowed: str
    default: str | None = None
    secret: bool = False
    """Its value is in no message."""


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError
        return number

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = float(text)
        if not low <= number <= high:
            raise ValueError
        return number

    return read


def _url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError
        return text.rstrip("/")

    return read


def _urls(text: str) -> tuple[str, ...]:
    return tuple(_url("nats", "tls", "ws", "wss")(one.strip()) for one in text.split(",") if one.strip())


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error
    if len(key) != ENCRYPTION_KEY_BYTES:
        raise ValueError
    return key


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return read


def is_token(text: str) -> bool:
    """Whether a text may be a master key or another token that is presented as `Bearer`."""
    return len(text) >= MIN_TOKEN_CHARS and text.isprintable() and " " not in text


def _token(text: str) -> str:
    if not is_token(text):
        raise ValueError
    return text


def _models(text: str) -> dict[str, str]:
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    if not all(name and sign and upstream for name, sign, upstream in pairs):
        raise ValueError
    return {name.strip(): upstream.strip() for name, _, upstream in pairs}


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError
    return text == "yes"


def _text(text: str) -> str:
    return text


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError
    return path.resolve()


VARIABLES: tuple[Variable, ...] = (
    Variable(
        "host", "GATEWAY_HOST", "the address to serve", _text, "an address or a name of this machine", "127.0.0.1"
    ),
    Variable(
        "port", "GATEWAY_PORT", "the port to serve", _whole(0, 65535), "a port, 0 to 65535 (0: any free one)", "3007"
    ),
    Variable("data_dir", "GATEWAY_DATA_DIR", "where `gateway up` keeps everything", Path, "a directory", ".gateway"),
    Variable(
        "api_processes",
        "GATEWAY_API_PROCESSES",
        "how many `gateway up` runs",
        _whole(1, 64),
        "a whole number, 1 to 64",
        "1",
    ),
    Variable("workers", "GATEWAY_WORKERS", "how many `gateway up` runs", _whole(1, 64), "a whole number, 1 to 64", "1"),
    Variable(
        "worker_slots",
        "GATEWAY_WORKER_SLOTS",
        "jobs that a worker has in hand",
        _whole(1, 4096),
        "jobs at a time, 1 to 4096",
        "256",
    ),
    Variable(
        "database_url",
        "GATEWAY_DATABASE_URL",
        "PostgreSQL 15 or newer; unset: `gateway up` brings its own",
        _url("postgresql", "postgres"),
        "postgresql://…",
        secret=True,
    ),
    Variable(
        "nats_urls",
        "GATEWAY_NATS_URL",
        "NATS 2.11 or newer with JetStream; unset: `gateway up` brings its own",
        _urls,
        "nats://…, or several with commas between",
        secret=True,
    ),
    Variable(
        "nats_replicas",
        "GATEWAY_NATS_REPLICAS",
        "servers that keep the queue; unset: 3 if the cluster has three servers, else 1. Never lowered by itself",
        _whole(1, 5),
        "a whole number, 1 to 5",
    ),
    Variable(
        "nats_credentials",
        "GATEWAY_NATS_CREDS",
        "the NATS user's credentials, as `nsc` writes them",
        _file,
        "a file that can be read",
    ),
    Variable(
        "master_key",
        "GATEWAY_MASTER_KEY",
        "the operator's token: creates projects, sets prices, adds the installation's providers. Needed on any address "
        "but loopback; unset: `gateway up` makes one and keeps it in its directory",
        _token,
        "at least 16 printable characters without spaces",
        secret=True,
    ),
    Variable(
        "keyless_projects",
        "GATEWAY_KEYLESS_PROJECTS",
        "whether this machine itself may create projects without the master key; unset: only if GATEWAY_MASTER_KEY is "
        "unset too",
        _yes_or_no,
        "yes or no",
    ),
    Variable(
        "metrics_token",
        "GATEWAY_METRICS_TOKEN",
        "the token that may read `/metrics` and the details of `/health/ready`; unset: this machine itself may",
        _token,
        "at least 16 printable characters without spaces",
        secret=True,
    ),
    Variable(
        "encryption_key",
        "GATEWAY_ENCRYPTION_KEY",
        "seals provider keys and answers; needed with servers of your own",
        _key,
        "32 bytes in base64 (openssl rand -base64 32)",
        secret=True,
    ),
    Variable(
        "openai_api_key",
        "OPENAI_API_KEY",
        "for projects that bring none of their own",
        _text,
        "a key of OpenAI's",
        secret=True,
    ),
    Variable(
        "anthropic_api_key",
        "ANTHROPIC_API_KEY",
        "for projects that bring none of their own",
        _text,
        "a key of Anthropic's",
        secret=True,
    ),
    Variable("openai_base_url", "OPENAI_BASE_URL", "where OpenAI is", _url("https", "http"), "an http(s) address"),
    Variable(
        "anthropic_base_url", "ANTHROPIC_BASE_URL", "where Anthropic is", _url("https", "http"), "an http(s) address"
    ),
    Variable(
        "upstream_models",
        "GATEWAY_UPSTREAM_MODELS",
        "the provider's own name for a model that callers know by another",
        _models,
        "name=provider's name, with commas between",
    ),
    Variable(
        "request_timeout_s",
        "GATEWAY_REQUEST_TIMEOUT_S",
        "how long a request may take in all",
        _seconds(1, 86_400),
        "seconds, 1 to 86400",
        "600",
    ),
    Variable(
        "max_body_bytes",
        "GATEWAY_MAX_BODY_BYTES",
        "larger requests get 413",
        _whole(1024, 2**30),
        "bytes, 1024 to 1073741824",
        "33554432",
    ),
    Variable(
        "max_bytes_in_hand",
        "GATEWAY_MAX_BYTES_IN_HAND",
        "bytes of request bodies and answers that an API process has in hand, above which it answers 503; a project "
        "gets no more than is still free",
        _whole(2**20, 2**40),
        "bytes, 1048576 to 1099511627776, and at least twice GATEWAY_MAX_BODY_BYTES",
        "536870912",
    ),
    Variable(
        "max_connections_per_address",
        "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS",
        "open connections from one client address (of IPv6, one /64 network) that an API process takes; a reverse "
        "proxy is one address",
        _whole(1, 1_000_000),
        "connections, 1 to 1000000",
        "1024",
    ),
    Variable(
        "cache_memory_bytes",
        "GATEWAY_CACHE_MEMORY_BYTES",
        "what an API process keeps of cached answers in memory",
        _whole(0, 2**36),
        "bytes, 0 to 68719476736",
        "67108864",
    ),
    Variable(
        "allow_loopback_urls",
        "GATEWAY_ALLOW_LOOPBACK_URLS",
        "whether addresses that callers give (of alerts, of providers) may be this machine's own, and http",
        _yes_or_no,
        "yes or no",
        "no",
    ),
    Variable(
        "log_format",
        "GATEWAY_LOG_FORMAT",
        "how log lines are written; unset: console on a terminal, else json",
        _one_of("console", "json"),
        "console or json",
    ),
)
