"""Times, sizes and numbers that are not exceeded."""

from typing import Annotated

from msgspec import Meta

from infra.environment_variables import Variable
from infra.settings.providers import ProviderSettings

DEFAULT_MAX_BODY_BYTES = 32 * 1024 * 1024


class LimitSettings(ProviderSettings, frozen=True, kw_only=True):
    """What is not exceeded."""

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
    ] = DEFAULT_MAX_BODY_BYTES
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
