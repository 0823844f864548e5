"""What a process writes about itself, and which addresses of callers it trusts."""

from pathlib import Path
from typing import Annotated

from infra.environment_variables import (
    Variable,
    yes_or_no,
)
from infra.settings.kinds import (
    AccessLines,
    LogFormat,
    LogLevel,
    socket_path,
)
from infra.settings.telemetry import TelemetryVariables


class LineSettings(TelemetryVariables, frozen=True, kw_only=True):
    """Lines and figures of a process."""

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
            parse=socket_path,
        ),
    ] = None
