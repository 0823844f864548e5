"""The kinds of values that variables have: their bounds, and how they are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from domain.credentials import DEFAULT_CREDENTIAL, MAX_CREDENTIALS, CredentialName, CredentialWeight
from domain.names import END, TOKEN_PATTERN
from infra.broker_access import read_credentials
from infra.environment_variables import (
    names,
    readable_file,
)

ENCRYPTION_KEY_BYTES = 32
ANCHOR_FILE = "audit.anchors"
"""In the data directory of `gateway up`, unless GATEWAY_AUDIT_ANCHOR_FILE names another."""
METRICS_SOCKET_SUFFIX = ".sock"
MAX_SOCKET_PATH_CHARS = 100

LogFormat = Literal["console", "json"]
OtlpProtocol = Literal["grpc", "http/protobuf"]
LogLevel = Literal["info", "warning"]
AccessLines = Literal["all", "failures", "none"]
HttpUrl = Annotated[str, Meta(pattern=r"^https?://")]
OperatorsUrl = Annotated[str, Meta(pattern=r"^(https://[^/]|http://(localhost|127\.0\.0\.1|\[::1\])([:/]|$))")]
"""An address that the operator gives for data of ours. It may be on a private network."""
StoreUrl = Annotated[
    str,
    Meta(pattern=r"^(https://[^:@/?#]+:[^@/?#]+@[^@/?#]+|http://[^:@/?#]+:[^@/?#]+@(localhost|127\.0\.0\.1)(:\d+)?)/"),
]
NatsUrl = Annotated[str, Meta(pattern=r"^(nats|tls|ws|wss)://")]
PostgresUrl = Annotated[str, Meta(pattern=r"^(postgresql|postgres)://")]
EncryptionKey = Annotated[bytes, Meta(min_length=ENCRYPTION_KEY_BYTES, max_length=ENCRYPTION_KEY_BYTES)]
"""msgspec decodes base64."""
MetricsPort = Annotated[int, Meta(ge=1, le=65_535)]
NatsReplicas = Annotated[int, Meta(ge=1, le=5)]
NonEmpty = Annotated[str, Meta(min_length=1)]
OtlpHeaders = dict[NonEmpty, NonEmpty]
"""As the variable has them: percent-encoded."""


class NamedKey(Struct, frozen=True):
    """One of several keys of a provider."""

    name: CredentialName
    key: Annotated[str, Meta(min_length=1, pattern=TOKEN_PATTERN)]
    weight: CredentialWeight = 1

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"NamedKey({self.name!r})"


InstallationProvider = Annotated[str, Meta(pattern=rf"^(openai|anthropic)(/[a-z0-9][a-z0-9_-]{{0,62}})?{END}")]
"""A provider, or one of its named keys."""
NamedKeys = Annotated[tuple[NamedKey, ...], Meta(max_length=MAX_CREDENTIALS - 1)]


def named_keys(text: str) -> list[dict[str, str]]:
    """Read `name=key` or `name:weight=key`, with commas between. Raises ValueError."""
    keys: list[dict[str, str]] = []
    for part in names(text):
        name, equals, key = part.partition("=")
        name, colon, weight = name.partition(":")
        if not equals or name == DEFAULT_CREDENTIAL or any(one["name"] == name for one in keys):
            raise ValueError("a key without a name, or with one that is taken")
        keys.append({"name": name, "key": key} | ({"weight": weight} if colon else {}))
    return keys


def socket_path(text: str) -> Path:
    """Read the path of a Unix socket, which systems keep short. Raises ValueError."""
    if len(text) > MAX_SOCKET_PATH_CHARS:
        raise ValueError("too long")
    return Path(text)


def credentials_file(text: str) -> Path:
    """Read the path of a file of `nsc`, or of an NKey's seed. Raises ValueError."""
    path = readable_file(text)
    read_credentials(path)
    return path


def set_ones(values: Mapping[str, str | None]) -> dict[str, str]:
    """Return what of them is set."""
    return {name: value for name, value in values.items() if value}
