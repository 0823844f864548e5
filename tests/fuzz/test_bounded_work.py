"""The work and the memory that a request costs grow with its bytes, whatever its shape.

Counted are the lines of Python that run, not seconds, so that it does not matter what else the machine does.
`python -m bench.strange_requests` measures the seconds.
"""

import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import msgspec
import pytest

from domain.errors import InvalidRequest
from tests.fuzz.planning import PlannedSurface, plan_request
from tests.fuzz.shapes import SHAPES, Shape

SMALL_BYTES, LARGE_BYTES = 80_000, 240_000
MAX_LINES_PER_BYTE = 12
MAX_GROWTH = 1.3
"""Of the lines for each byte, from the small request to the large one. A loop inside a loop has up to 4."""
FEW_LINES_PER_BYTE = 0.2
"""So few that what a request costs however small it is, and what happens at a certain size, count for more."""
MAX_BYTES_PER_BYTE = 40
"""Of memory, for each byte of the request."""
NOW = datetime(2026, 11, 25, tzinfo=UTC)
CASES = [
    pytest.param(called, model, make, id=f"{call}, {name}, {model}")
    for call, (called, shapes, models) in SHAPES.items()
    for model in models
    for name, make in shapes.items()
]


@pytest.mark.parametrize(("called", "model", "make"), CASES)
def test_work_and_memory_grow_with_the_bytes(called: PlannedSurface, model: str, make: Shape) -> None:
    small, large = (msgspec.json.encode({"model": model} | make(size)) for size in (SMALL_BYTES, LARGE_BYTES))
    if len(small) < SMALL_BYTES // 2:
        pytest.fail("the shape is too small to tell anything")
    per_byte = [lines_of(planning(called, body)) / len(body) for body in (small, large)]
    assert max(per_byte) < MAX_LINES_PER_BYTE
    assert per_byte[1] < max(per_byte[0] * MAX_GROWTH, FEW_LINES_PER_BYTE)
    tracemalloc.start()
    planning(called, large)()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MAX_BYTES_PER_BYTE * len(large)


def planning(called: PlannedSurface, body: bytes) -> Callable[[], None]:
    """Return what plans a request."""

    def plan() -> None:
        with suppress(InvalidRequest):  # the work of a refusal is bounded as well
            plan_request(called, body, at=NOW)

    plan()
    return plan


def lines_of(work: Callable[[], None]) -> int:
    """Count the lines of Python that work runs. Each turn of a comprehension is one, too."""
    lines = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines
