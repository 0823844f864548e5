"""Measures streams over the whole path: the time that the gateway adds to the first byte, and CPU time per chunk.

Each stream has 200 deltas, which the provider sends at a pace or all at once. The added time is the difference to the
same load sent directly to the provider, in the same run. The key has every kind of limit, and nothing is cached.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench import load
from bench.whole_path import GROUPS, SETTLE_S, Measured, cpu_seconds

CHUNKS = 200
CONNECTIONS = (1, 16, 64)


class StreamCall(NamedTuple):
    """A call that streams, and the provider's path for the same request."""

    name: str
    path: str
    model: str
    provider_path: str
    has_native_fields: bool = False


CALLS = (
    StreamCall("OpenAI's, passthrough", "/v1/chat/completions", "gpt-4o-mini", "/v1/chat/completions"),
    StreamCall("Anthropic's, passthrough", "/v1/messages", "claude-3-haiku-20240307", "/v1/messages"),
    StreamCall("OpenAI's from Claude", "/v1/chat/completions", "claude-3-haiku-20240307", "/v1/messages"),
    StreamCall("Anthropic's from GPT", "/v1/messages", "gpt-4o-mini", "/v1/chat/completions"),
    StreamCall("native", "/api/v1/completions/chat", "gpt-4o-mini", "/v1/chat/completions", has_native_fields=True),
)


def body(call: StreamCall) -> bytes:
    """Return a request for a stream of `CHUNKS` deltas that is not cached."""
    message = {"role": "user", "content": f"[[chunks={CHUNKS}]]"}
    fields = {"maxTokens": 1000, "cache": False} if call.has_native_fields else {"max_tokens": 1000}
    return json.dumps({"model": call.model, "messages": [message], "stream": True} | fields).encode()


def run(gateway: Measured, call: StreamCall, connections: int, streams: int, *, straight: bool) -> load.Result:
    """Request streams, from the gateway or directly from the provider."""
    content = body(call)
    port, path = (gateway.stub_port, call.provider_path) if straight else (gateway.port, call.path)
    headers = {"authorization": f"Bearer {gateway.key}", "anthropic-version": "2023-06-01"}
    return uvloop.run(
        load.run_streams(port, path, headers, lambda _: content, streams=streams, connections=connections)
    )


def measure(gateway: Measured, call: StreamCall, pace_ms: float, connections: int, streams: int) -> None:
    """Measure one row and print it."""
    run(gateway, call, connections, connections, straight=False)
    time.sleep(SETTLE_S)
    before = cpu_seconds(gateway.process)
    through = run(gateway, call, connections, streams, straight=False)
    time.sleep(SETTLE_S)
    after = cpu_seconds(gateway.process)
    straight = run(gateway, call, connections, streams, straight=True)
    spent = {group: (after[group] - before[group]) / streams / CHUNKS * 1e6 for group in GROUPS}
    parts = " + ".join(f"{spent[group]:.0f}" for group in GROUPS)
    added = [through.percentile_ms(percent) - straight.percentile_ms(percent) for percent in (50, 99)]
    failed = f" ({through.failures} FAILED)" if through.failures else ""
    print(
        f"| {call.name} | {f'{pace_ms:g} ms' if pace_ms else 'at once'} | {connections} | "
        f"{added[0]:.1f} / {added[1]:.1f} | {streams * CHUNKS / through.seconds:,.0f} | "
        f"**{sum(spent.values()):.0f}** ({parts}) |{failed}",
        flush=True,
    )


def main() -> None:
    """Measure and print every row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--streams", type=int, default=128, help="per row at 16 and 64 at a time; 1 at a time gets an 8th"
    )
    parser.add_argument("--calls", type=int, default=len(CALLS), help="how many of the calls, in their order")
    arguments = parser.parse_args()
    print(
        "| stream | pace | at a time | first byte, ms added, p50 / p99 | chunks/s | "
        f"CPU µs per chunk ({' + '.join(GROUPS)}) |\n|---|---|---|---|---|---|"
    )
    for pace_ms in (5.0, 0.0):
        with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
            gateway = Measured(Path(directory) / "data", pace_ms=pace_ms)
            try:
                for call in CALLS[: arguments.calls]:
                    for connections in CONNECTIONS:
                        streams = arguments.streams if connections > 1 else max(4, arguments.streams // 8)
                        measure(gateway, call, pace_ms, connections, streams)
            finally:
                gateway.stop()


if __name__ == "__main__":
    main()
