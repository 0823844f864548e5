"""Measures the whole path: requests per second, latencies, and CPU microseconds per request by process.

The key has budgets, a rate limit, a token limit and a concurrency limit.

CPU time is what the operating system accounts for each process tree (user and system), so other load on the machine
does not change it. Every run has a fixed number of requests.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import uvloop

from bench import load
from bench.systems import OurGateway, Stub, group_below_supervisor, process_cpu_s

GROUPS = ("api", "worker", "projector", "postgresql", "nats")
WARM_UP = 300
SETTLE_S = 1.0
LIMITS: Mapping[str, float | None] = {
    "dailyBudget": 1_000_000,
    "monthlyBudget": 1_000_000,
    "rateLimit": 1_000_000_000,
    "tokenLimit": 1_000_000_000,
    "concurrencyLimit": 1_000_000,
}
PROMPT = "What is the capital of France? " + "x" * 60


def body(prompt: str) -> bytes:
    """Return a chat request of about 200 bytes. It leaves the cache on, which is the default."""
    message = {"role": "user", "content": prompt}
    return json.dumps({"model": "gpt-4o-mini", "messages": [message], "maxTokens": 100}).encode()


def cpu_seconds(up: psutil.Process) -> dict[str, float]:
    """Return the CPU seconds used so far by each group of processes below `up`.

    Children of PostgreSQL that have ended are included.
    """
    used: defaultdict[str, float] = defaultdict(float)
    for process in up.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            used[group_below_supervisor(process)] += process_cpu_s(process)
    return used


class Measured(OurGateway):
    """A gateway with the stub provider that it calls, both started."""

    limits = LIMITS

    def __init__(
        self,
        directory: Path,
        *,
        delay_ms: float = 0,
        pace_ms: float = 0,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start both. The provider waits `delay_ms` before a response, and `pace_ms` between the events of a stream.

        `directory` is the gateway's data directory, `arguments` are those of `gateway up`, `env` are further variables
        of its environment.
        """
        self._stub = Stub("--delay-ms", str(delay_ms), "--pace-ms", str(pace_ms))
        self.stub_port = self._stub.port
        super().__init__(directory.parent / f"{directory.name}-output", self.stub_port)
        self.data_dir = directory
        self._arguments = arguments
        self._env = env or {}
        self.start()
        self.process = self.root

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [*super().command(), *self._arguments]

    def variables(self) -> dict[str, str]:
        """Return the settings: both vendors are the stub."""
        anthropic = {"ANTHROPIC_API_KEY": "sk-bench", "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{self.stub_port}"}
        return super().variables() | anthropic | dict(self._env)

    def stop(self) -> None:
        """Stop the gateway and the provider."""
        super().stop()
        self._stub.stop()


def measure(gateway: Measured, name: str, requests: int, connections: int, *, hit: bool) -> None:
    """Measure one row and print it."""
    fresh = itertools.count()

    def bodies(_number: int) -> bytes:
        return body(PROMPT if hit else f"{PROMPT} {name} {connections} {next(fresh)}")

    uvloop.run(load.run(gateway.port, gateway.key, bodies, requests=WARM_UP, connections=connections))
    time.sleep(SETTLE_S)
    before = cpu_seconds(gateway.process)
    result = uvloop.run(load.run(gateway.port, gateway.key, bodies, requests=requests, connections=connections))
    time.sleep(SETTLE_S)
    after = cpu_seconds(gateway.process)
    spent = {group: (after[group] - before[group]) / requests * 1e6 for group in GROUPS}
    parts = " + ".join(f"{spent[group]:.0f}" for group in GROUPS)
    failed = f" ({result.failures} FAILED)" if result.failures else ""
    print(
        f"| {name} | {connections} | {result.requests / result.seconds:,.0f} | {result.percentile_ms(50):.1f} / "
        f"{result.percentile_ms(99):.1f} | **{sum(spent.values()):,.0f}** ({parts}) |{failed}",
        flush=True,
    )


def main() -> None:
    """Measure and print every row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000, help="per row (default 4000)")
    arguments = parser.parse_args()
    print(f"| what | connections | requests/s | p50 / p99 ms | CPU µs per request ({' + '.join(GROUPS)}) |")
    print("|---|---|---|---|---|")
    for name, delay_ms in (("miss", 0.0), ("miss, provider takes 50 ms", 50.0)):
        with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
            gateway = Measured(Path(directory) / "data", delay_ms=delay_ms)
            try:
                for connections in (1, 16, 64):
                    slow = delay_ms * arguments.requests / connections / 1000 > 60
                    requests = arguments.requests // 10 if slow else arguments.requests
                    measure(gateway, name, requests, connections, hit=False)
                if not delay_ms:
                    for connections in (1, 16, 64):
                        measure(gateway, "hit", arguments.requests, connections, hit=True)
            finally:
                gateway.stop()


if __name__ == "__main__":
    main()
