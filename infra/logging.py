"""Structured log lines on standard error: fixed event names, ids and figures; never content, never a key."""

import logging
import sys

import structlog

from domain.names import printable
from infra.settings import LogFormat


def configure_logging(log_format: LogFormat, *, process: str) -> None:
    """Configure structlog and the standard library's loggers for this process. Libraries log from warnings on."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    finish: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, renderer] if log_format == "json" else [_printable, renderer]
    )
    structlog.configure(
        processors=[*shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _printable(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what could steer a terminal; JSON needs it not."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, keep="\n\t")
    return event
