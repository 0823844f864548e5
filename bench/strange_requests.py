"""Measures what the requests cost to read, translate and bound that are the dearest for their size.

    python -m bench.strange_requests [BYTES]

Prints the CPU milliseconds of one plan for each shape of `tests/fuzz/shapes.py`, passed through and translated: of five
runs the least.
"""

import sys
import time
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from domain.errors import GatewayError
from tests.fuzz.planning import plan_request
from tests.fuzz.shapes import SHAPES

RUNS = 5
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def main(size_bytes: int) -> None:
    """Print a table."""
    print(f"{'call':10} {'shape':22} {'KB':>5} {'passed through':>15} {'translated':>11}   ms of CPU")
    for call, (called, shapes, models) in SHAPES.items():
        for name, make in shapes.items():
            found = []
            for model in models:
                body = msgspec.json.encode({"model": model} | make(size_bytes))
                best_s = 1e9
                for _ in range(RUNS):
                    began_s = time.process_time()
                    with suppress(GatewayError):
                        plan_request(called, body, at=NOW)
                    best_s = min(best_s, time.process_time() - began_s)
                found.append(best_s * 1_000)
            print(f"{call:10} {name:22} {len(body) // 1000:5} {found[0]:15.1f} {found[1]:11.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
