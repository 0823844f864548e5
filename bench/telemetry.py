"""Measures what OpenTelemetry costs a request: CPU microseconds of a gateway without a collector, and of one with.

Both run at the same time and are measured in turns, so that the machine is the same for both. The collector takes
everything and looks at nothing.
"""

import argparse
import itertools
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvloop

from bench import load
from bench.whole_path import GROUPS, PROMPT, SETTLE_S, WARM_UP, Measured, body, cpu_seconds


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def sink() -> Iterator[str]:
    """Run a collector that keeps nothing. Gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def variants(address: str) -> dict[str, dict[str, str]]:
    """The settings of each gateway."""
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": address}
    tenth = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    return {"off": {}, "on": on, "on, a tenth of the traces": on | tenth}


def main() -> None:
    """Measure and print every row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000, help="per round (default 1000)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    fresh = itertools.count()

    def bodies(_number: int) -> bytes:
        return body(f"{PROMPT} {next(fresh)}")

    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True))
        gateways: dict[str, Measured] = {}
        for name, settings in variants(stack.enter_context(sink())).items():
            gateways[name] = Measured(Path(directory) / str(len(gateways)), env=settings)
            stack.callback(gateways[name].stop)
        for gateway in gateways.values():
            uvloop.run(load.run(gateway.port, gateway.key, bodies, requests=WARM_UP, connections=arguments.connections))
        spent: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
        for _ in range(arguments.rounds):
            for name, gateway in gateways.items():
                time.sleep(SETTLE_S)
                before = cpu_seconds(gateway.process)
                result = uvloop.run(
                    load.run(
                        gateway.port,
                        gateway.key,
                        bodies,
                        requests=arguments.requests,
                        connections=arguments.connections,
                    )
                )
                assert not result.failures, result.failures
                time.sleep(SETTLE_S)
                after = cpu_seconds(gateway.process)
                spent[name].append({one: (after[one] - before[one]) / arguments.requests * 1e6 for one in GROUPS})
        print(f"| telemetry | CPU µs per request ({' + '.join(GROUPS)}) | all rounds |")
        print("|---|---|---|")
        for name, rounds in spent.items():
            parts = " + ".join(f"{statistics.median(one[group] for one in rounds):.0f}" for group in GROUPS)
            totals = [sum(one.values()) for one in rounds]
            each = ", ".join(f"{one:,.0f}" for one in totals)
            print(f"| {name} | **{statistics.median(totals):,.0f}** ({parts}) | {each} |")


if __name__ == "__main__":
    main()
