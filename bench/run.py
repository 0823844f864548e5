"""Measures what a request costs on the whole path, beside a bare handler, and with `--peers` beside other gateways.

Cost is CPU microseconds per request, summed over all processes of a system, as the operating system counts them: other
load on the machine changes it little. Latencies and rates do depend on that load, which is printed. Every row is
measured in rounds, all systems in turn within a round, so that they meet the same machine, the bare handler before each
row; the median round is told.

    python -m bench.run [--peers] [--beside CHECKOUT] [--rounds N] [--share N] [--out FILE] [--compare FILE]
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from bench.peers import installed_peers
from bench.results import (
    OTHER_CHECKOUT,
    LoadRow,
    Round,
    Run,
    SystemResult,
    beside_table,
    comparison_table,
    figure_table,
    load_table,
    read,
    switched_on,
    write,
)
from bench.rows import BARE_LOAD, LOADS, Load, first_answer_s, first_request_ms, measure
from bench.systems import (
    ROOT,
    START_LIMIT_S,
    BareHandler,
    OtherCheckout,
    OurGateway,
    Stub,
    System,
    end_in_order,
    start_or_leave_out,
)

KEPT = ROOT / ".bench"
OWN_RUN = KEPT / "run.json"
PEERS_RUN = KEPT / "peers.json"
ROUNDS = 2
RESTARTS = 2


def machine() -> str:
    """Return what the figures depend on, in words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def loads_of(system: System) -> Sequence[Load]:
    """Return the loads that are measured of a system."""
    if isinstance(system, BareHandler):
        return ()
    return [kind for kind in LOADS if system.has_cache or not kind.is_hit]


def measure_loads(systems: Sequence[System], stub: Stub, rounds: int, share: float) -> dict[str, list[LoadRow]]:
    """Measure every load of every system, all systems in turn within a round, and the bare handler around each row."""
    bare = next(system for system in systems if isinstance(system, BareHandler))
    measured: defaultdict[tuple[str, Load], list[Round]] = defaultdict(list)
    before = measure(bare, BARE_LOAD, share=share)
    for number in range(rounds):
        for kind in LOADS:
            for system in systems:
                if kind in loads_of(system):
                    began_s = time.monotonic()
                    one = measure(system, kind, share=system.share * share, straight=stub.target())
                    took_s = time.monotonic() - began_s
                    after = measure(bare, BARE_LOAD, share=share)
                    bare_us = (before.total_us + after.total_us) / 2
                    measured[system.name, kind].append(replace(one, bare_us=bare_us))
                    measured[bare.name, BARE_LOAD].append(after)
                    before = after
                    progress(f"round {number + 1}: {system.name}, {kind.name}, {kind.connections}", one, took_s)
    rows: defaultdict[str, list[LoadRow]] = defaultdict(list)
    for (name, kind), results in measured.items():
        rows[name].append(LoadRow(name=kind.name, connections=kind.connections, rounds=results))
    return rows


def progress(what: str, one: Round, took_s: float) -> None:
    """Say how far the run is, apart from the results."""
    print(f"{what}: {one.total_us:,.0f} µs, {took_s:.0f} s", file=sys.stderr, flush=True)


def measure_starts(system: System, restarts: int) -> tuple[list[float], list[float]]:
    """Stop and start a system. Returns the seconds to a first answer, and the first requests' milliseconds."""
    restarts_s, first_ms = [], []
    for _ in range(restarts):
        system.stop()
        restarts_s.append(first_answer_s(system, START_LIMIT_S))
        system.stop()
        first_ms.append(first_request_ms(system))
    return restarts_s, first_ms


def measure_all(
    systems: Sequence[System], stub: Stub, *, rounds: int, restarts: int, share: float
) -> list[SystemResult]:
    """Measure everything of every system, which have been started."""
    rows = measure_loads(systems, stub, rounds, share)
    results = []
    for system in systems:
        memory_mb = system.memory_mb()
        restarts_s, first_ms = ([], []) if isinstance(system, BareHandler) else measure_starts(system, restarts)
        results.append(
            SystemResult(
                name=system.name,
                switched_on=system.switched_on,
                rows=rows[system.name],
                servers=system.servers,
                memory_mb=memory_mb,
                first_requests_ms=first_ms,
                restarts_s=restarts_s,
            )
        )
        system.stop()
    return results


def run(
    *,
    peers: bool,
    rounds: int,
    restarts: int,
    share: float = 1.0,
    left_out: Sequence[str] = (),
    beside: Path | None = None,
) -> Run:
    """Start the systems, the gateway of the checkout `beside` too, measure them, and stop them."""
    began, load_before = datetime.now(UTC), os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True)))
        stub = Stub()
        stack.callback(stub.stop)
        systems: list[System] = [BareHandler(folder / "bare", stub.port), OurGateway(folder / "ours", stub.port)]
        systems += [OtherCheckout(folder / "beside", stub.port, beside)] if beside else []
        systems += installed_peers(folder, stub.port) if peers else []
        systems = [system for system in systems if system.name not in left_out]
        for system in systems:
            stack.callback(system.stop)
        started = [system for system in systems if start_or_leave_out(system)]
        results = measure_all(started, stub, rounds=rounds, restarts=restarts, share=share)
    return Run(
        began=f"{began:%Y-%m-%d %H:%M} UTC",
        machine=machine(),
        load=(load_before, os.getloadavg()[0]),
        systems=results,
    )


def report(result: Run, *, peers: Run | None, before: Run | None) -> None:
    """Print everything."""
    bare = f"{result.bare_us():,.0f} µs of CPU"
    print(
        f"{result.began}, {result.machine}; load {result.load[0]:.1f} at the beginning, {result.load[1]:.1f} at the end"
    )
    print(f"A bare handler takes {bare}.\n\n{load_table(result, peers)}\n\n{figure_table(result)}\n")
    print(switched_on(result.systems))
    if result.system(OTHER_CHECKOUT) is not None:
        print(f"\n{beside_table(result)}")
    if before is not None:
        print(f"\nCompared with {before.began}, load {before.load[0]:.1f}:\n\n{comparison_table(before, result)}")


def main() -> None:
    """Parse the arguments, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="measure the installed peers in the same run")
    parser.add_argument("--leave-out", nargs="+", default=(), metavar="NAME", help="systems that are not measured")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="another checkout with a .venv, whose gateway is measured in turns",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each row (default {ROUNDS})")
    parser.add_argument("--restarts", type=int, default=RESTARTS, help=f"of each kind (default {RESTARTS})")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of each row's requests, on a busy machine (default 1)"
    )
    parser.add_argument("--out", type=Path, help=f"where the run is stored (default {OWN_RUN.relative_to(ROOT)})")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="a stored run to compare this one with")
    arguments = parser.parse_args()
    end_in_order()
    before = read(arguments.compare) if arguments.compare else None
    peers = read(PEERS_RUN) if PEERS_RUN.exists() and not arguments.peers else None
    result = run(
        peers=arguments.peers,
        rounds=arguments.rounds,
        restarts=arguments.restarts,
        share=arguments.share,
        left_out=arguments.leave_out,
        beside=arguments.beside,
    )
    out = arguments.out or (PEERS_RUN if arguments.peers else OWN_RUN)
    write(result, out)
    report(result, peers=peers, before=before)
    print(f"\nStored in {out}")


if __name__ == "__main__":
    main()
