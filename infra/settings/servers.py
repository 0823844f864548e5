"""PostgreSQL and NATS: their addresses, and how a process connects to them."""

from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from msgspec import field

from infra.broker_access import BrokerAccess
from infra.environment_variables import (
    Variable,
    addresses,
    certificates_file,
    pairs,
    readable_file,
    without_final_slash,
)
from infra.settings.kinds import (
    NatsReplicas,
    NatsUrl,
    NonEmpty,
    PostgresUrl,
    credentials_file,
)
from infra.settings.serving import ServingSettings
from migrations.roles import Process


class ServerSettings(ServingSettings, frozen=True, kw_only=True):
    """PostgreSQL and NATS."""

    database_url: Annotated[
        PostgresUrl | None,
        Variable(
            "GATEWAY_DATABASE_URL",
            "PostgreSQL 15 or newer; unset: `gateway up` brings its own",
            "postgresql://…",
            secret=True,
            parse=without_final_slash,
        ),
    ] = None
    migration_database_url: Annotated[
        PostgresUrl | None,
        Variable(
            "GATEWAY_MIGRATION_DATABASE_URL",
            "the same database as the role that owns its tables, for `gateway migrate`, `gateway up` and `gateway "
            "projections`; unset: GATEWAY_DATABASE_URL, whose role may then do anything with the log",
            "postgresql://…",
            secret=True,
            parse=without_final_slash,
        ),
    ] = None
    database_roles: Annotated[
        dict[Process, NonEmpty],
        Variable(
            "GATEWAY_DATABASE_ROLES",
            "the PostgreSQL roles of the processes, for `gateway migrate` and `gateway up`, which grant each what it "
            "needs. A process that is not named keeps the role that it has in the database; at first it is that of "
            "GATEWAY_DATABASE_URL",
            "api=ROLE,worker=ROLE,projector=ROLE",
            parse=pairs,
        ),
    ] = field(default_factory=dict)
    nats_urls: Annotated[
        tuple[NatsUrl, ...],
        Variable(
            "GATEWAY_NATS_URL",
            "NATS 2.11 or newer with JetStream; unset: `gateway up` brings its own",
            "nats://…, or several with commas between",
            secret=True,
            parse=addresses,
        ),
    ] = ()
    nats_replicas: Annotated[
        NatsReplicas | None,
        Variable(
            "GATEWAY_NATS_REPLICAS",
            "servers that keep the queue; unset: 3 if the cluster has three servers, else 1. Never lowered by itself",
            "a whole number, 1 to 5",
            parse=int,
        ),
    ] = None
    nats_credentials: Annotated[
        Path | None,
        Variable(
            "GATEWAY_NATS_CREDS",
            "the NATS user's credentials, as `nsc` writes them, or the seed of an NKey",
            "a file with one of them",
            parse=credentials_file,
        ),
    ] = None
    nats_ca: Annotated[
        Path | None,
        Variable(
            "GATEWAY_NATS_CA",
            "the authorities that sign the certificates of NATS, with tls:// URLs; unset: the system's",
            "a file with certificates in PEM",
            parse=certificates_file,
        ),
    ] = None
    nats_certificate: Annotated[
        Path | None,
        Variable(
            "GATEWAY_NATS_CERT",
            "the certificate that NATS asks its clients for; needs GATEWAY_NATS_KEY",
            "a file with certificates in PEM",
            parse=certificates_file,
        ),
    ] = None
    nats_key: Annotated[
        Path | None,
        Variable(
            "GATEWAY_NATS_KEY", "the private key of GATEWAY_NATS_CERT", "a file that can be read", parse=readable_file
        ),
    ] = None

    @property
    def owner_url(self) -> str | None:
        """Return the database's address as the owner of its tables."""
        return self.migration_database_url or self.database_url

    @property
    def role(self) -> str | None:
        """Return the PostgreSQL role of the processes that `database_roles` does not name; None: the owner's."""
        return unquote(urlsplit(self.database_url or "").username or "") or None

    @property
    def nats_access(self) -> BrokerAccess:
        """Return how this process identifies itself to NATS, and knows its servers."""
        return BrokerAccess(
            credentials=self.nats_credentials, ca=self.nats_ca, certificate=self.nats_certificate, key=self.nats_key
        )
