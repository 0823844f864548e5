"""Golden streams: a client gets the same bytes today as when the file was written.

`make golden` writes the files again (it sets WRITE_GOLDEN=1 for the tests). Read the difference before you commit it.
"""

import os
import re
from pathlib import Path

_FILES = Path(__file__).parent.parent / "golden" / "streams"
_MOVING = (
    (re.compile(rb'"created":[0-9]+'), b'"created":0'),
    (re.compile(rb'"latencyMs":[0-9]+'), b'"latencyMs":0'),
    (re.compile(rb"\breq_\w+"), b"req_0"),
)
"""The parts that change from run to run: times, and the gateway's ids. The provider's ids depend on the prompt only."""


def frozen(name: str, stream: bytes) -> tuple[bytes, bytes]:
    """Return a stream without its changing parts, and the content of its golden file."""
    for pattern, still in _MOVING:
        stream = pattern.sub(still, stream)
    path = _FILES / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_bytes(stream)
    return stream, path.read_bytes()


def names_of_files() -> set[str]:
    """Return the names of all golden files."""
    return {path.stem for path in _FILES.glob("*.txt")}
