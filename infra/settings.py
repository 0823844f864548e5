"""The process's settings: environment variables and flags, read once. A wrong value is refused by the variable's name.

`Settings` is the table of the variables. No message and no repr shows a secret.
"""

import base64
import difflib
import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from dotenv import dotenv_values
from msgspec import Meta, Struct

from domain.circuit import CircuitSettings
from domain.credentials import DEFAULT_CREDENTIAL, MAX_CREDENTIALS, CredentialName, CredentialWeight
from domain.names import END, TOKEN_PATTERN
from domain.secret_text import is_secret
from infra.broker_access import BrokerAccess, read_credentials, tls_context
from infra.environment_variables import (
    SecretFileError,
    Setting,
    Variable,
    addresses,
    certificates_file,
    names,
    pairs,
    readable_file,
    settings_of,
    text_of,
    token,
    true_or_false,
    without_final_slash,
    yes_or_no,
)
from infra.telemetry.settings import SignalSettings, TelemetrySettings
from migrations.roles import Process

ENCRYPTION_KEY_BYTES = 32
MAX_SOCKET_PATH_CHARS = 100
_WITH_TOKENS = frozenset({"nats", "tls", "ws", "wss"})
"""A name alone in such an address is a token."""
_WEB_SCHEMES = frozenset({"http", "https"})
_TLS_SCHEMES = frozenset(("tls", "wss"))
LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})

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


def _named_keys(text: str) -> list[dict[str, str]]:
    """Read `name=key` or `name:weight=key`, with commas between. Raises ValueError."""
    keys: list[dict[str, str]] = []
    for part in names(text):
        name, equals, key = part.partition("=")
        name, colon, weight = name.partition(":")
        if not equals or name == DEFAULT_CREDENTIAL or any(one["name"] == name for one in keys):
            raise ValueError("a key without a name, or with one that is taken")
        keys.append({"name": name, "key": key} | ({"weight": weight} if colon else {}))
    return keys


def _socket_path(text: str) -> Path:
    """Read the path of a Unix socket, which systems keep short. Raises ValueError."""
    if len(text) > MAX_SOCKET_PATH_CHARS:
        raise ValueError("too long")
    return Path(text)


def _credentials_file(text: str) -> Path:
    """Read the path of a file of `nsc`, or of an NKey's seed. Raises ValueError."""
    path = readable_file(text)
    read_credentials(path)
    return path


class SettingsError(Exception):
    """A setting is missing or wrong. The message is one line: the name, the value, the allowed values."""


class Settings(Struct, frozen=True, kw_only=True):
    """The configuration of a process."""

    host: Annotated[str, Variable("GATEWAY_HOST", "the address to serve", "an address or a name of this machine")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int,
        Meta(ge=0, le=65_535),
        Variable("GATEWAY_PORT", "the port to serve", "a port, 0 to 65535 (0: any free one)"),
    ] = 3007
    data_dir: Annotated[Path, Variable("GATEWAY_DATA_DIR", "where `gateway up` keeps everything", "a directory")] = (
        Path(".gateway")
    )
    api_processes: Annotated[
        int,
        Meta(ge=1, le=64),
        Variable("GATEWAY_API_PROCESSES", "how many `gateway up` runs", "a whole number, 1 to 64"),
    ] = 1
    workers: Annotated[
        int,
        Meta(ge=1, le=64),
        Variable("GATEWAY_WORKERS", "how many `gateway up` runs", "a whole number, 1 to 64"),
    ] = 1
    spare_process: Annotated[
        bool,
        Variable(
            "GATEWAY_SPARE_PROCESS",
            "whether `gateway up` keeps a process at hand (some 160 MB) that takes the place of one that dies at once",
            "yes or no",
            parse=yes_or_no,
        ),
    ] = True
    worker_slots: Annotated[
        int,
        Meta(ge=1, le=4_096),
        Variable("GATEWAY_WORKER_SLOTS", "jobs that a worker has in hand", "jobs at a time, 1 to 4096"),
    ] = 256
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
    ] = {}
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
            parse=_credentials_file,
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
    audit_key: Annotated[
        EncryptionKey | None,
        Variable(
            "GATEWAY_AUDIT_KEY",
            "signs the heads of the log; only the projector needs it. Unset: it is derived from "
            "GATEWAY_ENCRYPTION_KEY; if that is unset too, `gateway up` makes one and keeps it in its directory",
            "32 bytes in base64 (openssl rand -base64 32)",
            secret=True,
        ),
    ] = None
    audit_public_keys: Annotated[
        tuple[EncryptionKey, ...],
        Variable(
            "GATEWAY_AUDIT_PUBLIC_KEYS",
            "the public keys of former audit keys, whose signatures still count (`gateway audit keys` shows them)",
            "32 bytes in base64, or several with commas between",
            parse=addresses,
        ),
    ] = ()
    audit_interval_s: Annotated[
        float,
        Meta(ge=1, le=3_600),
        Variable("GATEWAY_AUDIT_INTERVAL_S", "how often the head of the log is signed", "seconds, 1 to 3600"),
    ] = 60.0
    audit_anchor_file: Annotated[
        Path | None,
        Variable(
            "GATEWAY_AUDIT_ANCHOR_FILE",
            "where the projector adds each signed head, on a disk that the database's owner cannot write to; unset: "
            "`gateway up` takes audit.anchors in its directory, a single process none",
            "a file",
            parse=Path,
        ),
    ] = None
    audit_webhook: Annotated[
        OperatorsUrl | None,
        Variable(
            "GATEWAY_AUDIT_WEBHOOK",
            "where the projector sends each signed head, as JSON",
            "an https address, or http on this machine",
            secret=True,
        ),
    ] = None
    audit_object_store: Annotated[
        StoreUrl | None,
        Variable(
            "GATEWAY_AUDIT_OBJECT_STORE",
            "an object store (S3 or the like) where the projector puts each signed head, with the key to write there; "
            "the parts of the key are percent-encoded",
            "https://KEY_ID:SECRET@HOST/BUCKET/FOLDER?region=REGION, or http on this machine",
            secret=True,
        ),
    ] = None
    openai_api_key: Annotated[
        str | None,
        Variable("OPENAI_API_KEY", "for projects that bring none of their own", "a key of OpenAI's", secret=True),
    ] = None
    anthropic_api_key: Annotated[
        str | None,
        Variable("ANTHROPIC_API_KEY", "for projects that bring none of their own", "a key of Anthropic's", secret=True),
    ] = None
    openai_api_keys: Annotated[
        NamedKeys,
        Variable(
            "GATEWAY_OPENAI_API_KEYS",
            "further keys of OpenAI's: calls are spread over all of them by weight, and a route may name one",
            "NAME=KEY or NAME:WEIGHT=KEY, with commas between",
            secret=True,
            parse=_named_keys,
        ),
    ] = ()
    anthropic_api_keys: Annotated[
        NamedKeys,
        Variable(
            "GATEWAY_ANTHROPIC_API_KEYS",
            "further keys of Anthropic's, in the same way",
            "NAME=KEY or NAME:WEIGHT=KEY, with commas between",
            secret=True,
            parse=_named_keys,
        ),
    ] = ()
    installation_providers: Annotated[
        tuple[InstallationProvider, ...] | None,
        Variable(
            "GATEWAY_INSTALLATION_PROVIDERS",
            "the providers whose keys the workers have, for an API process that has not; those whose keys it has are "
            "counted as well",
            "openai, anthropic, or a named key of one (openai/NAME), with commas between",
            parse=names,
        ),
    ] = None
    openai_base_url: Annotated[
        HttpUrl | None,
        Variable("OPENAI_BASE_URL", "where OpenAI is", "an http(s) address", parse=without_final_slash),
    ] = None
    anthropic_base_url: Annotated[
        HttpUrl | None,
        Variable("ANTHROPIC_BASE_URL", "where Anthropic is", "an http(s) address", parse=without_final_slash),
    ] = None
    upstream_models: Annotated[
        dict[NonEmpty, NonEmpty],
        Variable(
            "GATEWAY_UPSTREAM_MODELS",
            "the provider's own name for a model that callers know by another",
            "name=provider's name, with commas between",
            parse=pairs,
        ),
    ] = {}
    """The provider's name for a model, by the name that callers use. Looked up before the built-in table."""
    circuit_breaker: Annotated[
        bool,
        Variable(
            "GATEWAY_CIRCUIT_BREAKER",
            "whether a provider that does not answer, or asks for a pause, is left alone for a while",
            "yes or no",
            parse=yes_or_no,
        ),
    ] = True
    circuit_window_s: Annotated[
        float,
        Meta(ge=1, le=3_600),
        Variable(
            "GATEWAY_CIRCUIT_WINDOW_S",
            "for how long a call counts for the circuit of its provider, model and credential",
            "seconds, 1 to 3600",
        ),
    ] = 60.0
    circuit_min_calls: Annotated[
        int,
        Meta(ge=1, le=100_000),
        Variable("GATEWAY_CIRCUIT_MIN_CALLS", "calls in the window below which no circuit opens", "calls, 1 to 100000"),
    ] = 10
    circuit_failure_ratio: Annotated[
        float,
        Meta(gt=0, le=1),
        Variable(
            "GATEWAY_CIRCUIT_FAILURE_RATIO",
            "the part of the window's calls that has to fail for a circuit to open",
            "a number above 0, up to 1",
        ),
    ] = 0.5
    circuit_open_s: Annotated[
        float,
        Meta(ge=0.1, le=3_600),
        Variable(
            "GATEWAY_CIRCUIT_OPEN_S",
            "after how long a call probes an open circuit; doubled each time that the probe fails",
            "seconds, 0.1 to 3600",
        ),
    ] = 2.0
    circuit_max_open_s: Annotated[
        float,
        Meta(ge=0.1, le=3_600),
        Variable(
            "GATEWAY_CIRCUIT_MAX_OPEN_S",
            "the longest that a circuit is open without a probe, whatever the provider asks for",
            "seconds, 0.1 to 3600",
        ),
    ] = 60.0
    models_file: Annotated[
        Path | None,
        Variable(
            "GATEWAY_MODELS_FILE",
            "what is known of models beside, or instead of, the built-in table (docs/reference/models.md): limits, "
            "efforts, sampling",
            "a TOML file that can be read, with tables [models.NAME]",
            parse=readable_file,
        ),
    ] = None
    request_timeout_s: Annotated[
        float,
        Meta(ge=1, le=86_400),
        Variable("GATEWAY_REQUEST_TIMEOUT_S", "how long a request may take in all", "seconds, 1 to 86400"),
    ] = 600.0
    job_timeout_s: Annotated[
        float,
        Meta(ge=1, le=30 * 86_400),
        Variable("GATEWAY_JOB_TIMEOUT_S", "how long an asynchronous job may take in all", "seconds, 1 to 2592000"),
    ] = 86_400.0
    job_call_timeout_s: Annotated[
        float,
        Meta(ge=1, le=86_400),
        Variable(
            "GATEWAY_JOB_CALL_TIMEOUT_S",
            "how long one request of an asynchronous job may take; after it the job may make another",
            "seconds, 1 to 86400",
        ),
    ] = 1_800.0
    job_result_ttl_s: Annotated[
        float,
        Meta(ge=60, le=30 * 86_400),
        Variable("GATEWAY_JOB_RESULT_TTL_S", "how long the result of a job is kept", "seconds, 60 to 2592000"),
    ] = 86_400.0
    job_slots: Annotated[
        int,
        Meta(ge=0, le=4_096),
        Variable(
            "GATEWAY_JOB_SLOTS",
            "asynchronous jobs that an API process runs at a time at most; 0: it runs none and accepts them for others",
            "jobs, 0 to 4096",
        ),
    ] = 32
    max_open_jobs: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        Variable(
            "GATEWAY_MAX_OPEN_JOBS",
            "asynchronous jobs of one project that have not ended, above which it gets 429",
            "jobs, 1 to 1000000",
        ),
    ] = 20_000
    max_body_bytes: Annotated[
        int,
        Meta(ge=1_024, le=2**30),
        Variable(
            "GATEWAY_MAX_BODY_BYTES", "larger requests, as they are unpacked, get 413", "bytes, 1024 to 1073741824"
        ),
    ] = 32 * 1024 * 1024
    max_bytes_in_hand: Annotated[
        int,
        Meta(ge=2**20, le=2**40),
        Variable(
            "GATEWAY_MAX_BYTES_IN_HAND",
            "bytes of request bodies and answers that an API process has in hand, above which it answers 503; a "
            "project gets no more than is still free",
            "bytes, 1048576 to 1099511627776, and at least twice GATEWAY_MAX_BODY_BYTES",
        ),
    ] = 512 * 1024 * 1024
    unread_timeout_s: Annotated[
        int,
        Meta(ge=1, le=3_600),
        Variable(
            "GATEWAY_UNREAD_TIMEOUT_S",
            "how long a client may leave an answer unread (it has to take 1,024 bytes a second on average) before its "
            "connection is ended; a stream is then charged as far as it came",
            "whole seconds, 1 to 3600",
        ),
    ] = 60
    max_requests_in_flight: Annotated[
        int,
        Meta(ge=2, le=1_000_000),
        Variable(
            "GATEWAY_MAX_REQUESTS_IN_FLIGHT",
            "requests that an API process has with workers at a time, above which it answers 503; a provider gets "
            "half of them, and more only from projects with few requests to it",
            "requests, 2 to 1000000",
        ),
    ] = 8_192
    max_connections_per_address: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        Variable(
            "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS",
            "open connections from one client address (of IPv6, one /64 network) that an API process takes; a reverse "
            "proxy is one address",
            "connections, 1 to 1000000",
        ),
    ] = 1_024
    idempotency_ttl_s: Annotated[
        int,
        Meta(ge=60, le=7 * 86_400),
        Variable(
            "GATEWAY_IDEMPOTENCY_TTL_S",
            "how long after its end a request with an Idempotency-Key is answered by what is kept",
            "whole seconds, 60 to 604800",
        ),
    ] = 86_400
    idempotency_max_answers: Annotated[
        int,
        Meta(ge=1, le=10_000_000),
        Variable(
            "GATEWAY_IDEMPOTENCY_MAX_ANSWERS",
            "answers that are kept under idempotency keys for one project; beyond that the oldest go early",
            "answers, 1 to 10000000",
        ),
    ] = 100_000
    idempotency_max_bytes: Annotated[
        int,
        Meta(ge=2**20, le=2**40),
        Variable(
            "GATEWAY_IDEMPOTENCY_MAX_BYTES",
            "bytes of answers, before compression, that are kept under idempotency keys for one project; beyond that "
            "the oldest go early",
            "bytes, 1048576 to 1099511627776",
        ),
    ] = 1024 * 1024 * 1024
    cache_memory_bytes: Annotated[
        int,
        Meta(ge=0, le=2**36),
        Variable(
            "GATEWAY_CACHE_MEMORY_BYTES",
            "what an API process keeps of cached answers in memory",
            "bytes, 0 to 68719476736",
        ),
    ] = 64 * 1024 * 1024
    telemetry_endpoint: Annotated[
        HttpUrl | None,
        Variable(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "the OpenTelemetry collector that the API and the workers send traces and metrics to; unset: they send "
            "none (docs/how-to/send-telemetry.md)",
            "an http(s) address",
            parse=without_final_slash,
        ),
    ] = None
    traces_endpoint: Annotated[
        HttpUrl | None,
        Variable(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "another one for the traces; over http/protobuf with its path",
            "an http(s) address",
        ),
    ] = None
    metrics_endpoint: Annotated[
        HttpUrl | None,
        Variable(
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "another one for the metrics; over http/protobuf with its path",
            "an http(s) address",
        ),
    ] = None
    telemetry_protocol: Annotated[
        OtlpProtocol,
        Variable("OTEL_EXPORTER_OTLP_PROTOCOL", "how the collector is spoken to", "grpc or http/protobuf"),
    ] = "http/protobuf"
    traces_protocol: Annotated[
        OtlpProtocol | None,
        Variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "otherwise for the traces", "grpc or http/protobuf"),
    ] = None
    metrics_protocol: Annotated[
        OtlpProtocol | None,
        Variable("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "otherwise for the metrics", "grpc or http/protobuf"),
    ] = None
    telemetry_headers: Annotated[
        OtlpHeaders,
        Variable(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "headers that the collector is sent, such as its token",
            "name=value, with commas between, percent-encoded",
            secret=True,
            parse=pairs,
        ),
    ] = {}
    traces_headers: Annotated[
        OtlpHeaders,
        Variable(
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "others for the traces",
            "name=value, with commas between, percent-encoded",
            secret=True,
            parse=pairs,
        ),
    ] = {}
    metrics_headers: Annotated[
        OtlpHeaders,
        Variable(
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
            "others for the metrics",
            "name=value, with commas between, percent-encoded",
            secret=True,
            parse=pairs,
        ),
    ] = {}
    telemetry_disabled: Annotated[
        bool,
        Variable(
            "OTEL_SDK_DISABLED",
            "whether nothing is sent, whatever the other variables say",
            "true or false",
            parse=true_or_false,
        ),
    ] = False
    service_name: Annotated[
        NonEmpty,
        Variable("OTEL_SERVICE_NAME", "the name of this gateway in the telemetry", "a name"),
    ] = "ai-gateway"
    telemetry_conventions: Annotated[
        tuple[str, ...],
        Variable(
            "OTEL_SEMCONV_STABILITY_OPT_IN",
            "which names model calls have in the telemetry: `gen_ai_latest_experimental` for those of the latest "
            "conventions, `gen_ai_latest_experimental/dup` for both; unset: those that dashboards read today",
            "names with commas between; those of other areas say nothing here",
            parse=names,
        ),
    ] = ()
    telemetry_content_bytes: Annotated[
        int,
        Meta(ge=0, le=65_536),
        Variable(
            "GATEWAY_TELEMETRY_CONTENT_BYTES",
            "how much of what a provider is sent, and of its answer, a span carries at most; 0: no content is ever in "
            "the telemetry",
            "bytes, 0 to 65536",
        ),
    ] = 0
    allow_loopback_urls: Annotated[
        bool,
        Variable(
            "GATEWAY_ALLOW_LOOPBACK_URLS",
            "whether addresses that callers give (of alerts, of providers) may be this machine's own, and http",
            "yes or no",
            parse=yes_or_no,
        ),
    ] = False
    log_format: Annotated[
        LogFormat,
        Variable(
            "GATEWAY_LOG_FORMAT",
            "how log lines are written; unset: console on a terminal, else json",
            "console or json",
        ),
    ]
    log_level: Annotated[
        LogLevel | None,
        Variable(
            "GATEWAY_LOG_LEVEL",
            "which lines are written, beside those of requests: info, or only from warning on; unset: info, but "
            "warning for the processes of a `gateway up` whose lines go to a terminal as console",
            "info or warning",
        ),
    ] = None
    access_log: Annotated[
        AccessLines,
        Variable(
            "GATEWAY_ACCESS_LOG",
            "which requests have a line in the API's log: all, failures (status 400 and above), or none; those without "
            "a valid key have 60 a minute, and then a count",
            "all, failures or none",
        ),
    ] = "all"
    metrics_socket: Annotated[
        Path | None,
        Variable(
            "GATEWAY_METRICS_SOCKET",
            "a Unix socket where the process serves its figures; `gateway up` gives each of its processes one, named "
            "like the process, in a directory of its own. `/metrics` of the API then has those of all processes in "
            "that directory, with the label `process`",
            "a path of at most 100 characters",
            parse=_socket_path,
        ),
    ] = None

    @property
    def circuits(self) -> CircuitSettings:
        """Return when circuits open, and for how long."""
        return CircuitSettings(
            is_on=self.circuit_breaker,
            window_s=self.circuit_window_s,
            min_calls=self.circuit_min_calls,
            failure_ratio=self.circuit_failure_ratio,
            open_s=self.circuit_open_s,
            max_open_s=self.circuit_max_open_s,
        )

    @property
    def telemetry(self) -> TelemetrySettings:
        """Return where traces and metrics go, and how."""
        base, is_off = self.telemetry_endpoint, self.telemetry_disabled
        return TelemetrySettings(
            traces=None if is_off else self._signal("traces", base, self.traces_endpoint),
            metrics=None if is_off else self._signal("metrics", base, self.metrics_endpoint),
            service_name=self.service_name,
            opt_in=self.telemetry_conventions,
            content_bytes=self.telemetry_content_bytes,
        )

    def _signal(self, signal: Literal["traces", "metrics"], base: str | None, own: str | None) -> SignalSettings | None:
        """Return where one signal goes; None: nowhere. Over HTTP, the common address lacks the signal's path."""
        if own is None and base is None:
            return None
        protocol: OtlpProtocol = getattr(self, f"{signal}_protocol") or self.telemetry_protocol
        with_path = f"{base}/v1/{signal}" if protocol == "http/protobuf" else base
        headers: dict[str, str] = getattr(self, f"{signal}_headers") or self.telemetry_headers
        return SignalSettings(
            endpoint=own or with_path or "",
            is_grpc=protocol == "grpc",
            headers={name.lower(): unquote(value) for name, value in headers.items()},
        )

    @property
    def owner_url(self) -> str | None:
        """Return the database's address as the owner of its tables."""
        return self.migration_database_url or self.database_url

    @property
    def role(self) -> str | None:
        """Return the PostgreSQL role of the processes that `database_roles` does not name; None: the owner's."""
        return unquote(urlsplit(self.database_url or "").username or "") or None

    @property
    def provider_keys(self) -> dict[str, str]:
        """Return the installation's keys by provider, for projects without a key of their own.

        An empty one is with the workers alone, or has a name.
        """
        elsewhere = {one.partition("/")[0]: "" for one in self.installation_providers or ()}
        return (
            elsewhere
            | dict.fromkeys(self.further_provider_keys, "")
            | _set_ones({"openai": self.openai_api_key, "anthropic": self.anthropic_api_key})
        )

    @property
    def further_provider_keys(self) -> dict[str, tuple[NamedKey, ...]]:
        """Return the installation's keys that have a name, by provider."""
        further = {"openai": self.openai_api_keys, "anthropic": self.anthropic_api_keys}
        return {provider: keys for provider, keys in further.items() if keys}

    @property
    def installation_credentials(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the installation's keys, by built-in provider: those that the workers have as well."""
        known: dict[str, dict[str, None]] = {}
        for one in self.installation_providers or ():
            provider, _, name = one.partition("/")
            known.setdefault(provider, {})[name or DEFAULT_CREDENTIAL] = None
        for provider, key in self.provider_keys.items():
            names = known.setdefault(provider, {})
            if key:
                names[DEFAULT_CREDENTIAL] = None
            names.update({one.name: None for one in self.further_provider_keys.get(provider, ())})
        return {provider: tuple(sorted(names)) for provider, names in known.items()}

    @property
    def secret_texts(self) -> tuple[str, ...]:
        """Return the texts of these settings that no log line may have."""
        values = [getattr(self, setting.field) for setting in SETTINGS if setting.variable.secret]
        texts = [text for value in values if value is not None for text in _secrets_of(value)]
        collectors = (self.telemetry_endpoint, self.traces_endpoint, self.metrics_endpoint)
        addresses = [*self.provider_base_urls.values(), *(url for url in collectors if url is not None)]
        in_addresses = [text for url in addresses for text in _secrets_in_url(url)]
        return tuple(dict.fromkeys(text for text in (*texts, *in_addresses) if is_secret(text)))

    @property
    def provider_base_urls(self) -> dict[str, str]:
        """Return the addresses of the built-in providers that are not called at their vendor's address."""
        return _set_ones({"openai": self.openai_base_url, "anthropic": self.anthropic_base_url})

    @property
    def nats_access(self) -> BrokerAccess:
        """Return how this process identifies itself to NATS, and knows its servers."""
        return BrokerAccess(
            credentials=self.nats_credentials, ca=self.nats_ca, certificate=self.nats_certificate, key=self.nats_key
        )

    def __repr__(self) -> str:
        """Show the host, the port and the directory; no secret, and no address with a password."""
        return f"Settings(host={self.host!r}, port={self.port}, data_dir={str(self.data_dir)!r})"


def _secrets_of(
    value: str | bytes | NamedKey | dict[str, str] | tuple[str | bytes | NamedKey, ...],
) -> list[str]:
    """What is secret in the value of a variable with a secret."""
    if isinstance(value, dict):  # headers: a value may have a scheme in front, such as `Bearer`
        decoded = [text for one in value.values() for text in (one, unquote(one))]
        return [text for one in decoded for text in (one, one.rpartition(" ")[2])]
    if isinstance(value, NamedKey):
        return [value.key]
    if isinstance(value, tuple):
        return [text for part in value for text in _secrets_of(part)]
    if isinstance(value, bytes):
        return [base64.b64encode(value).decode()]
    if "://" not in value:
        return [value]
    parts = urlsplit(value)
    # a webhook's secret is often its path; that of a database is its name
    path = value[value.index(parts.netloc) + len(parts.netloc) :] if parts.scheme in _WEB_SCHEMES else ""
    return [path, *_secrets_in_url(value)]


def _secrets_in_url(url: str) -> list[str]:
    """The password of an address, or its token, as it is written and as it is read; and those of its query."""
    parts = urlsplit(url)
    in_name = parts.password or (parts.username if parts.scheme in _WITH_TOKENS else None)
    in_query = [value for name, value in parse_qsl(parts.query) if "password" in name]
    return [text for text in (in_name, unquote(in_name or ""), *in_query) if text]


SETTINGS = settings_of(Settings)
VARIABLE_NAMES = frozenset(
    name for setting in SETTINGS for name in (setting.variable.name, setting.variable.file_name) if name is not None
)
_TEST_PREFIX = "GATEWAY_TEST_"


def environment(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the environment, with the values of the directory's `.env` for variables that are not set."""
    from_file = {name: value for name, value in dotenv_values(directory / ".env").items() if value is not None}
    return from_file | dict(environ)


def load_settings(
    environ: Mapping[str, str], *, flags: Mapping[str, object] | None = None, on_terminal: bool = False
) -> Settings:
    """Read the settings. A flag that is not None takes precedence over its variable.

    Raises:
        SettingsError: a value is wrong, or a GATEWAY_ variable does not exist.

    """
    for name in sorted(environ):
        if name.startswith("GATEWAY_") and name not in VARIABLE_NAMES and not name.startswith(_TEST_PREFIX):
            near = difflib.get_close_matches(name, VARIABLE_NAMES, n=1)
            raise SettingsError(f"{name} is not a setting" + (f": did you mean {near[0]}?" if near else ""))
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        flag = (flags or {}).get(setting.field)
        try:
            text = str(flag) if flag is not None else text_of(setting.variable, environ)
        except SecretFileError as error:
            raise SettingsError(str(error)) from None
        if text is not None:
            values[setting.field] = _value(setting, text)
    values.setdefault("keyless_projects", "master_key" not in values)
    values.setdefault("log_format", "console" if on_terminal else "json")
    settings = Settings(**values)
    if settings.max_bytes_in_hand < 2 * settings.max_body_bytes:  # one owner gets at most half
        raise SettingsError(
            f"GATEWAY_MAX_BYTES_IN_HAND is {settings.max_bytes_in_hand}: it must be at least twice "
            f"GATEWAY_MAX_BODY_BYTES, which is {settings.max_body_bytes}"
        )
    _check_nats_tls(settings)
    return settings


def _check_nats_tls(settings: Settings) -> None:
    """Refuse what would send the credentials of NATS in clear where TLS is meant.

    Raises:
        SettingsError: some URLs are for TLS and others not, or files for TLS are set without such a URL.

    """
    schemes = {urlsplit(url).scheme for url in settings.nats_urls}
    if len(schemes) > 1:
        raise SettingsError(
            f"GATEWAY_NATS_URL has {' and '.join(sorted(schemes))} URLs: allowed is one of them for all"
        )
    files = {
        "GATEWAY_NATS_CA": settings.nats_ca,
        "GATEWAY_NATS_CERT": settings.nats_certificate,
        "GATEWAY_NATS_KEY": settings.nats_key,
    }
    set_ones = [name for name, path in files.items() if path is not None]
    if set_ones and not schemes <= _TLS_SCHEMES:
        raise SettingsError(f"{set_ones[0]} is set, and GATEWAY_NATS_URL is not tls://: without TLS it has no effect")
    if (settings.nats_certificate is None) != (settings.nats_key is None):
        raise SettingsError(f"{set_ones[-1]} is set alone: GATEWAY_NATS_CERT and GATEWAY_NATS_KEY go together")
    if settings.nats_certificate is not None:
        try:
            tls_context(ca=settings.nats_ca, certificate=settings.nats_certificate, key=settings.nats_key)
        except (OSError, ssl.SSLError):
            raise SettingsError(
                f"GATEWAY_NATS_KEY is {str(settings.nats_key)!r}: allowed is the private key of GATEWAY_NATS_CERT"
            ) from None


def set_directly(values: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for a child process, with those unset that name a file with the same secret."""
    files = {
        setting.variable.file_name: ""
        for setting in SETTINGS
        if setting.variable.file_name is not None and setting.variable.name in values
    }
    return files | dict(values)


def is_loopback(host: str) -> bool:
    """Return whether an address or a name always means this machine."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_master_key(settings: Settings) -> None:
    """Refuse to serve other machines without a master key.

    Raises:
        SettingsError: the host is not a loopback address and there is no master key.

    """
    if settings.master_key is None and not is_loopback(settings.host):
        raise SettingsError(
            f"GATEWAY_MASTER_KEY is not set, and host {settings.host!r} is open to other machines: set it to at least "
            "16 printable characters, or serve 127.0.0.1"
        )


def require_other_providers(settings: Settings) -> None:
    """Refuse a provider address that is the gateway's own: each request would call the gateway again, without end.

    Raises:
        SettingsError: the gateway itself serves the address of a built-in provider.

    """
    for provider, url in settings.provider_base_urls.items():
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        is_here = is_loopback(host) or host == settings.host
        if port == settings.port and is_here:
            raise SettingsError(
                f"{provider.upper()}_BASE_URL is {url!r}, which is this gateway itself: it names the provider that the "
                "gateway calls, so unset it here, or serve another port"
            )


def require_servers(settings: Settings, *, audit_key_serves: bool = False) -> None:
    """Refuse to run a single process without the servers and the encryption key that all processes share.

    The projector opens nothing that is sealed. It signs: with `audit_key_serves` the audit key is enough.

    Raises:
        SettingsError: a variable is missing; the message names the first one.

    """
    for name, value in (
        ("GATEWAY_DATABASE_URL", settings.database_url),
        ("GATEWAY_NATS_URL", settings.nats_urls),
        ("GATEWAY_ENCRYPTION_KEY", settings.encryption_key or (audit_key_serves and settings.audit_key)),
    ):
        if not value:
            raise SettingsError(f"{name} is not set: a single process needs it (`gateway up` brings its own)")


def _value(setting: Setting, text: str) -> Any:
    variable = setting.variable
    try:
        return setting.read(text)
    except ValueError:
        shown = f"{len(text)} characters" if variable.secret else repr(text)
        raise SettingsError(f"{variable.name} is {shown}: allowed is {variable.allowed}") from None


def _set_ones(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
