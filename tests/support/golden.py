"""Frozen streams: what was once written to a client is what is written today, byte for byte.

`make golden` writes the files anew (WRITE_GOLDEN=1 in the environment of the tests); read the difference before it is
committed.
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
"""Times, and ids of the gateway's own. The test provider's ids follow from the prompt."""


def frozen(name: str, stream: bytes) -> tuple[bytes, bytes]:
    """A stream without what moves, and the file that it should be."""
    for pattern, still in _MOVING:
        stream = pattern.sub(still, stream)
    path = _FILES / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_bytes(stream)
    return stream, path.read_bytes()


def names_of_files() -> set[str]:
    """Every stream that is kept."""
    return {path.stem for path in _FILES.glob("*.txt")}
