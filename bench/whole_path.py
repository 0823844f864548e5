"""Measures the whole path: requests per second, latencies, and CPU microseconds per request by process.

The key has budgets, a rate limit, a token limit and a concurrency limit.

CPU time is what the operating system accounts for each process tree (user and system), so other load on the machine
does not change it. Every run has a fixed number of requests.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import uvloop

from bench import load

ROOT = Path(__file__).parent.parent
GROUPS = ("api", "worker", "projector", "postgresql", "nats")
WARM_UP = 300
SETTLE_S = 1.0
LIMITS = {
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
        try:
            line, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        group = next((name for name in ("api", "worker", "projector") if f"gateway {name}" in line), None)
        if group is None:
            group = "nats" if process.name() == "nats-server" else "postgresql"
        used[group] += times.user + times.system
    return used


class Measured:
    """A gateway and the stub provider that it calls."""

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

        `arguments` are those of `gateway up`, `env` are further variables of its environment.
        """
        how = ["--delay-ms", str(delay_ms), "--pace-ms", str(pace_ms)]
        self._stub = subprocess.Popen(
            [sys.executable, "-m", "bench.stub_provider", *how], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self._stub.stdout is not None
        self.stub_port = port = int(self._stub.stdout.readline())
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        environment |= {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        environment |= {"ANTHROPIC_API_KEY": "sk-bench", "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}"}
        environment |= env or {}
        self._up = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "gateway"),
                "up",
                "--port",
                "0",
                "--data-dir",
                str(directory),
                *arguments,
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.port, self.admin = self._read_greeting()
        self.key = self.issue_key("bench", LIMITS)
        self.process = psutil.Process(self._up.pid)

    def _read_greeting(self) -> tuple[int, str]:
        assert self._up.stdout is not None
        port, key = 0, ""
        for line in self._up.stdout:
            if "runs at" in line:
                port = int(line.split("http://")[1].split()[0].rpartition(":")[2])
            if line.startswith("  gw_live_"):
                key = line.strip()
            if "curl" in line:
                return port, key
        raise RuntimeError("the gateway did not start")

    def issue_key(self, name: str, limits: Mapping[str, float | None]) -> str:
        """Return a key with these limits."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/projects/api-keys",
            data=json.dumps({"name": name, **limits}).encode(),
            headers={"Authorization": f"Bearer {self.admin}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["data"]["apiKey"])

    def stop(self) -> None:
        """Stop the gateway and the provider."""
        self._up.terminate()
        self._up.wait(40)
        self._stub.terminate()
        self._stub.wait(5)


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
