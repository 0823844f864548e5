"""Where the process serves, and how many processes `gateway up` runs."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from infra.environment_variables import (
    Variable,
)


class ServingSettings(Struct, frozen=True, kw_only=True):
    """Where, and by how many processes."""

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
    worker_slots: Annotated[
        int,
        Meta(ge=1, le=4_096),
        Variable(
            "GATEWAY_WORKER_SLOTS",
            "jobs that a worker runs at a time: so many whose callers wait, and so many asynchronous ones",
            "jobs at a time, 1 to 4096",
        ),
    ] = 512
