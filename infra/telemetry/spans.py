"""How a span ends: with its block, and with the type of its error. Imported only if the telemetry is on."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, Status, StatusCode

from infra.telemetry import names


@contextmanager
def ending(span: Span) -> Iterator[None]:
    """End a span with the block, and say of which error."""
    try:
        yield
    except BaseException as error:
        fail(span, names.error_type(error))
        raise
    finally:
        span.end()


def fail(span: Span, error_type: str) -> None:
    """Say of a span that it ends with an error."""
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR))
