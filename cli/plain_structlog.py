"""Imports structlog without the library that it colours traces with, if that is installed (rich, which Litestar needs).

rich and its lexers took 5 MB of the supervisor and of the fork server each, and as much time as all the rest of
structlog. Our lines have traces without colours (`infra/logging.py`). Other modules can still import rich.
"""

import sys

COLOURS = "rich"


def import_plain_structlog() -> None:
    """Import structlog, unless it is imported already."""
    if "structlog" in sys.modules:
        return
    before = sys.modules.get(COLOURS)
    sys.modules[COLOURS] = None  # type: ignore[assignment]  # an import fails then (Python's reference, 5.3.1)
    try:
        import structlog  # noqa: F401, PLC0415 - while rich cannot be imported
    finally:
        del sys.modules[COLOURS]
        if before is not None:
            sys.modules[COLOURS] = before
