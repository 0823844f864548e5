"""The rows of `make bench`: which load each is, and how one round of it is measured."""

import itertools
import json
import time

import uvloop
from msgspec import Struct

from bench import load
from bench.load import Result, Target
from bench.results import Round, per_request_us
from bench.systems import MODEL, System

PROMPT_BYTES = 1_024
TOKENS_OUT = 64
DELTAS = 22
WARM_UP_PER_CONNECTION = 4
MIN_WARM_UP = 200
SETTLE_S = 1.0
"""The pause before CPU time is read: what a request leaves to be done (folds, acknowledgements) belongs to it."""


class Load(Struct, frozen=True, kw_only=True):
    """A load."""

    name: str
    connections: int
    requests: int
    """In each round, for a system of our own speed."""
    delay_ms: int = 0
    """How long the provider takes."""
    is_stream: bool = False
    is_hit: bool = False
    """The cache has the answer. Measured only of systems that have a cache as we do."""
    is_compared: bool = False
    """The same load goes directly to the provider too, for the latency that is added."""


LOADS = (
    Load(name="miss", connections=16, requests=2_500),
    Load(name="miss", connections=64, requests=2_500),
    Load(name="provider takes 50 ms", connections=64, requests=2_500, delay_ms=50),
    Load(name="provider takes 500 ms", connections=256, requests=2_560, delay_ms=500),
    Load(name="provider takes 50 ms", connections=4, requests=240, delay_ms=50, is_compared=True),
    Load(name="cache hit", connections=16, requests=4_000, is_hit=True),
    Load(name=f"stream of {DELTAS} events", connections=16, requests=1_500, is_stream=True),
    Load(name="miss", connections=1, requests=300),
)
BARE_LOAD = Load(name="miss", connections=16, requests=10_000)


class Bodies:
    """The bodies of requests: of about a kilobyte, each prompt another, unless the cache is to have the answer."""

    def __init__(self, kind: Load) -> None:
        self._kind = kind
        self._numbers = itertools.count(time.time_ns())

    def __call__(self, _number: int) -> bytes:
        """Return the next one."""
        kind = self._kind
        words = f"[[chunks={DELTAS}]]" if kind.is_stream else f"[[tokens={TOKENS_OUT}]]"
        delay = f"[[delay={kind.delay_ms}]]" if kind.delay_ms else ""
        number = 0 if kind.is_hit else next(self._numbers)
        prompt = f"{number} {words}{delay} What is the capital of France? ".ljust(PROMPT_BYTES, "x")
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 100}
        return json.dumps(body | ({"stream": True} if kind.is_stream else {})).encode()


def send(target: Target, kind: Load, requests: int) -> Result:
    """Send a load."""
    bodies = Bodies(kind)
    if kind.is_stream:
        return uvloop.run(
            load.run_streams(
                target.port, target.path, target.headers, bodies, streams=requests, connections=kind.connections
            )
        )
    return uvloop.run(load.send(target, bodies, requests=requests, connections=kind.connections))


def measure(system: System, kind: Load, *, share: float = 1.0, straight: Target | None = None) -> Round:
    """Measure one round. `share` is the part of the load's requests that is sent, `straight` the provider itself."""
    target = system.target(cached=kind.is_hit)
    requests = max(kind.connections * 2, int(kind.requests * share))
    warm_up = max(MIN_WARM_UP, kind.connections * WARM_UP_PER_CONNECTION)
    send(target, kind, max(kind.connections, int(warm_up * share)))
    time.sleep(SETTLE_S)
    before = system.cpu_s()
    result = send(target, kind, requests)
    time.sleep(SETTLE_S)
    spent = per_request_us(before, system.cpu_s(), requests)
    compared = send(straight, kind, requests) if straight is not None and kind.is_compared else None
    return Round(
        cpu_us=spent,
        requests_per_s=result.requests / result.seconds,
        p50_ms=result.percentile_ms(50),
        p99_ms=result.percentile_ms(99),
        straight_p50_ms=compared and compared.percentile_ms(50),
        failures=result.failures,
    )


def first_answer_s(system: System, limit_s: float) -> float:
    """Start a system, and return the seconds until a request is answered with 200.

    Raises:
        TimeoutError: none was in time.

    """
    began_s = time.monotonic()
    system.spawn()
    while time.monotonic() - began_s < limit_s:
        try:
            if not send(system.target(), FIRST, 1).failures:
                return time.monotonic() - began_s
        except (OSError, EOFError):
            pass
        time.sleep(POLL_S)
    raise TimeoutError(f"{system.name} did not answer: {system.last_output()}")


def first_request_ms(system: System) -> float:
    """Start a system, wait until it says that it is ready, and return how long its first request takes."""
    system.spawn()
    system.wait_ready()
    result = send(system.target(), FIRST, 1)
    assert not result.failures, system.last_output()
    return result.latencies_ms[0]


FIRST = Load(name="first", connections=1, requests=1)
POLL_S = 0.01
