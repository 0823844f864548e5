"""Who the operator is, who may read the metrics, and what seals the secrets."""

from typing import Annotated

from infra.environment_variables import (
    Variable,
    token,
    yes_or_no,
)
from infra.settings.kinds import (
    EncryptionKey,
    MetricsPort,
)
from infra.settings.servers import ServerSettings


class AccessSettings(ServerSettings, frozen=True, kw_only=True):
    """The operator, the metrics, the encryption."""

    master_key: Annotated[
        str | None,
        Variable(
            "GATEWAY_MASTER_KEY",
            "the operator's token: creates projects, sets prices, adds the installation's providers. Needed on any "
            "address but loopback; unset: `gateway up` makes one and keeps it in its directory",
            "at least 16 printable characters without spaces",
            secret=True,
            parse=token,
        ),
    ] = None
    keyless_projects: Annotated[
        bool,
        Variable(
            "GATEWAY_KEYLESS_PROJECTS",
            "whether this machine itself may create projects without the master key; unset: only if GATEWAY_MASTER_KEY "
            "is unset too",
            "yes or no",
            parse=yes_or_no,
        ),
    ]
    metrics_token: Annotated[
        str | None,
        Variable(
            "GATEWAY_METRICS_TOKEN",
            "the token that may read `/metrics` and the details of `/health/ready`; unset: this machine itself may, or "
            "whoever reaches GATEWAY_METRICS_PORT",
            "at least 16 printable characters without spaces",
            secret=True,
            parse=token,
        ),
    ] = None
    metrics_port: Annotated[
        MetricsPort | None,
        Variable(
            "GATEWAY_METRICS_PORT",
            "where each process serves its `/metrics` and `/health`; under `gateway up` its processes have this port "
            "and the next ones: the API processes, the workers, the projector. Unset: the API serves them beside its "
            "calls, and the others none",
            "a port, 1 to 65535",
            parse=int,
        ),
    ] = None
    metrics_host: Annotated[
        str,
        Variable(
            "GATEWAY_METRICS_HOST",
            "the address for GATEWAY_METRICS_PORT",
            "an address or a name of this machine",
        ),
    ] = "127.0.0.1"
    encryption_key: Annotated[
        EncryptionKey | None,
        Variable(
            "GATEWAY_ENCRYPTION_KEY",
            "seals provider keys and answers; needed with servers of your own",
            "32 bytes in base64 (openssl rand -base64 32)",
            secret=True,
        ),
    ] = None
