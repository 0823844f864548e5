"""Measures what callers feel while a part of the gateway is away: a killed process, or one that stands still.

Callers ask one request after the other, each over a connection that it keeps; the stub provider answers after
`--delay-ms`. The scenarios, each with a gateway of its own:

- `one-of-two`: two API processes, of which one is killed.
- `only-one`: the only API process is killed, several times.
- `worker-of-two`: two workers, of which one is killed, several times.
- `only-worker`: the only worker is killed, several times.
- `stopped-worker`: two workers, of which one is stopped (SIGSTOP) for 16 seconds, then goes on.
- `projector`: the projector is stopped (SIGSTOP) for `--away-s`, then goes on.

    uv run python -m bench.away [--callers 32] [--away-s 60] [--only NAME]
"""

import argparse
import asyncio
import itertools
import json
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import uvloop
from msgspec import Struct

from bench.whole_path import LIMITS, Measured

CALLERS = 32
AWAY_S = 60.0
DELAY_MS = 50
BEFORE_S = 10.0
KILLS = 5
BETWEEN_KILLS_S = 12.0
STOPPED_S = 16.0
WINDOW_S = 10.0
PAUSE_AFTER_FAILURE_S = 0.05
PATIENCE_S = 30.0
REFUSED, CUT, LATE = "connection refused", "connection cut", "no answer in time"


class Asked(Struct, frozen=True, kw_only=True):
    """A request as its caller saw it. Times are of the monotonic clock."""

    began_s: float
    ended_s: float
    outcome: str
    """A status, or what became of the connection."""


class Callers:
    """Callers that ask until they are cancelled."""

    def __init__(self, port: int, key: str) -> None:
        self.asked: list[Asked] = []
        self._port, self._key = port, key
        self._numbers = itertools.count()

    async def ask_on(self) -> None:
        """Be one caller."""
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    connection = connection or await asyncio.open_connection("127.0.0.1", self._port)
                    outcome = await self._ask(*connection)
            except ConnectionRefusedError:
                outcome = REFUSED
            except (OSError, asyncio.IncompleteReadError):
                outcome = CUT
            except TimeoutError:
                outcome = LATE
            self.asked.append(Asked(began_s=began_s, ended_s=time.monotonic(), outcome=outcome))
            if outcome in (REFUSED, CUT, LATE):
                connection = None
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        message = {"role": "user", "content": f"away {next(self._numbers)}"}
        body = json.dumps({"model": "gpt-4o-mini", "messages": [message], "maxTokens": 100, "cache": False}).encode()
        writer.write(
            b"POST /api/v1/completions/chat HTTP/1.1\r\nhost: l\r\nauthorization: Bearer %s\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (self._key.encode(), len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
        return head[9:12].decode()

    def outcomes(self, since_s: float) -> str:
        """Return how the requests ended that ended after a moment."""
        return ", ".join(
            f"{count:,} x {outcome}"
            for outcome, count in Counter(one.outcome for one in self.asked if one.ended_s >= since_s).most_common()
        )

    def next_answer_s(self, since_s: float) -> float | None:
        """Return how long after a moment the first request was answered that began after it; None if none was."""
        answered = [one.ended_s for one in self.asked if one.began_s >= since_s and one.outcome == "200"]
        return min(answered) - since_s if answered else None

    def slowest_s(self, moment_s: float) -> float:
        """Return how long after a moment the last request was answered that was in flight at it."""
        ended = [one.ended_s for one in self.asked if one.began_s < moment_s < one.ended_s]
        return max(ended, default=moment_s) - moment_s

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """Return the longest time in which nobody was answered."""
        moments = sorted(
            [since_s, until_s, *(one.ended_s for one in self.asked if one.outcome == "200" and since_s < one.ended_s)]
        )
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    def per_second(self, since_s: float, until_s: float) -> float:
        """Return how many answers a second there were between two moments."""
        return sum(one.outcome == "200" and since_s <= one.ended_s < until_s for one in self.asked) / (
            until_s - since_s
        )


def processes(gateway: Measured, command: str) -> list[psutil.Process]:
    """Return the gateway's processes of a kind."""
    children = gateway.process.children(recursive=True)
    return [child for child in children if f"gateway {command}" in " ".join(child.cmdline())]


def used_s(process: psutil.Process) -> float:
    """Return the processor time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def kill_one_of_two(gateway: Measured, callers: Callers, _away_s: float) -> None:
    """Kill one API process of two under load."""
    killed_s = time.monotonic()
    before = callers.per_second(killed_s - BEFORE_S, killed_s)
    processes(gateway, "api")[0].kill()
    await asyncio.sleep(BEFORE_S)
    until_s = time.monotonic()
    print(f"answers a second before / after     {before:.0f} / {callers.per_second(killed_s, until_s):.0f}")
    print(f"longest time without an answer      {callers.longest_gap_s(killed_s, until_s) * 1_000:.0f} ms")
    print(f"requests since then                 {callers.outcomes(killed_s)}", flush=True)


async def kill_the_only_one(gateway: Measured, callers: Callers, _away_s: float) -> None:
    """Kill the only API process, again and again."""
    waits_s = []
    for _ in range(KILLS):
        await asyncio.sleep(BETWEEN_KILLS_S)
        processes(gateway, "api")[0].kill()
        killed_s = time.monotonic()
        while (next_s := callers.next_answer_s(killed_s)) is None:  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0.01)
        waits_s.append(next_s)
        used = [f"{used_s(new):.2f} s" for new in processes(gateway, "api")]
        print(f"until the next answer               {next_s:.2f} s; {callers.outcomes(killed_s)}")
        print(f"processor time of the new process   {''.join(used)}", flush=True)
    print(f"median                              {statistics.median(waits_s):.2f} s", flush=True)


async def kill_workers(gateway: Measured, callers: Callers, _away_s: float) -> None:
    """Kill a worker, again and again."""
    waits_s = []
    for _ in range(KILLS):
        await asyncio.sleep(BETWEEN_KILLS_S)
        processes(gateway, "worker")[0].kill()
        killed_s = time.monotonic()
        await asyncio.sleep(BETWEEN_KILLS_S)
        waits_s.append(callers.slowest_s(killed_s))
        gap_ms = callers.longest_gap_s(killed_s, time.monotonic()) * 1_000
        print(
            f"last answer of those in flight      {waits_s[-1]:.2f} s; nobody answered for {gap_ms:.0f} ms", flush=True
        )
    print(f"median                              {statistics.median(waits_s):.2f} s; {callers.outcomes(0)}", flush=True)


async def stop_a_worker(gateway: Measured, callers: Callers, _away_s: float) -> None:
    """Let a worker stand still for a while."""
    worker = processes(gateway, "worker")[0]
    stopped_s = time.monotonic()
    worker.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(STOPPED_S)
    finally:
        worker.send_signal(signal.SIGCONT)
    back_s = time.monotonic()
    await asyncio.sleep(WINDOW_S)
    gap_ms = callers.longest_gap_s(stopped_s, back_s) * 1_000
    print(
        f"last answer of those in flight      {callers.slowest_s(stopped_s):.2f} s; nobody answered for {gap_ms:.0f} ms"
    )
    print(f"requests since it stood             {callers.outcomes(stopped_s)}", flush=True)


async def stop_the_projector(gateway: Measured, callers: Callers, away_s: float) -> None:
    """Let the projector stand still for a while."""
    began_s = time.monotonic()
    print(f"before                              {callers.per_second(began_s - BEFORE_S, began_s):.0f} answers a second")
    (projector,) = processes(gateway, "projector")
    projector.send_signal(signal.SIGSTOP)
    try:
        stopped_s = time.monotonic()
        while (passed_s := time.monotonic() - stopped_s) < away_s:
            await asyncio.sleep(min(WINDOW_S, away_s - passed_s))
            now_s = time.monotonic()
            rate, load = callers.per_second(now_s - WINDOW_S, now_s), psutil.getloadavg()[0]
            passed = f"away for {now_s - stopped_s:.0f} s"
            print(f"{passed:35} {rate:.0f} answers a second (load {load:.0f})", flush=True)
    finally:
        projector.send_signal(signal.SIGCONT)
    back_s = time.monotonic()
    await asyncio.sleep(WINDOW_S)
    print(f"back                                {callers.per_second(back_s, time.monotonic()):.0f} answers a second")
    print(f"requests since it stood             {callers.outcomes(stopped_s)}", flush=True)


Scenario = Callable[[Measured, Callers, float], Awaitable[None]]
SCENARIOS: dict[str, tuple[int, int, Scenario]] = {
    "one-of-two": (2, 1, kill_one_of_two),
    "only-one": (1, 1, kill_the_only_one),
    "worker-of-two": (1, 2, kill_workers),
    "only-worker": (1, 1, kill_workers),
    "stopped-worker": (1, 2, stop_a_worker),
    "projector": (1, 1, stop_the_projector),
}
"""By name: the number of API processes and of workers, and what happens."""


async def run(gateway: Measured, scenario: Scenario, callers: int, away_s: float) -> None:
    """Have callers ask, let something happen, and print what they saw."""
    asking = Callers(gateway.port, gateway.issue_key("callers", LIMITS))
    tasks = [asyncio.create_task(asking.ask_on()) for _ in range(callers)]
    await asyncio.sleep(2 * BEFORE_S)
    await scenario(gateway, asking, away_s)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Measure every scenario."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--callers", type=int, default=CALLERS)
    parser.add_argument("--away-s", type=float, default=AWAY_S)
    parser.add_argument("--delay-ms", type=float, default=DELAY_MS)
    parser.add_argument("--only", choices=SCENARIOS)
    arguments = parser.parse_args()
    for name, (api_processes, workers, scenario) in SCENARIOS.items():
        if arguments.only not in (None, name):
            continue
        print(f"{name}: {arguments.callers} callers, load {psutil.getloadavg()[0]:.0f}", flush=True)
        with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
            options = ("--api-processes", str(api_processes), "--workers", str(workers))
            gateway = Measured(Path(directory) / "data", delay_ms=arguments.delay_ms, arguments=options)
            try:
                uvloop.run(run(gateway, scenario, arguments.callers, arguments.away_s))
            finally:
                gateway.stop()


if __name__ == "__main__":
    main()
