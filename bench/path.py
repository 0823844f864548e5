"""Counts the functions, files and changes of file of our own code that one request runs, in the API and the worker.

An API and a worker run in this process, with their own servers and the stub provider. Each kind of request is sent
several times and traced by `sys.setprofile`. A function counts if every one of these requests calls it, unless it also
runs while there are no requests. Lambdas and comprehensions belong to the function around them. Functions are in the
order of their first call; a function in another file than the one before it is a change of file.
"""

import argparse
import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import aiohttp
import structlog
from msgspec import Struct

import api.process
import workers.process
from api.accounts import create_first_project
from infra.database import migrate
from infra.embedded_nats import EmbeddedNats
from infra.embedded_postgres import EmbeddedPostgres
from infra.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
PACKAGES = tuple(f"{ROOT / name}{os.sep}" for name in ("api", "workers", "projections", "infra", "domain"))
WARM_UPS = 3
RUNS = 5
IDLE_S = 2.5
SETTLE_S = 0.1
"""The pause after a response, in which the worker acknowledges the job and pulls the next one."""
PROMPT = [{"role": "user", "content": "What is the capital of France?"}]


class Kind(Struct, frozen=True, kw_only=True):
    """A kind of request."""

    name: str
    path: str
    body: dict[str, Any]


KINDS = (
    Kind(name="hit, native chat", path="/api/v1/completions/chat", body={"model": "gpt-4o-mini", "messages": PROMPT}),
    Kind(
        name="miss, native chat",
        path="/api/v1/completions/chat",
        body={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is {number} times 7?"}]},
    ),
    Kind(
        name="stream, passthrough",
        path="/v1/chat/completions",
        body={"model": "gpt-4o-mini", "messages": PROMPT, "stream": True},
    ),
    Kind(
        name="stream, translated",
        path="/v1/chat/completions",
        body={"model": "claude-3-haiku", "messages": PROMPT, "stream": True},
    ),
)


class Trace:
    """Our own functions, in the order of their first call."""

    def __init__(self) -> None:
        self.functions: dict[CodeType, None] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record what this thread calls until the block ends."""
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGES) and not code.co_name.startswith("<"):
            self.functions.setdefault(code)


def in_every(traces: list[Trace], idle: Trace) -> list[CodeType]:
    """Return the functions that every trace has and the idle trace has not, in the order of the last trace."""
    return [
        code
        for code in traces[-1].functions
        if code not in idle.functions and all(code in trace.functions for trace in traces)
    ]


def row(name: str, functions: list[CodeType]) -> str:
    """Return one row of the table."""
    files = [code.co_filename for code in functions]
    changes = sum(file != following for file, following in itertools.pairwise(files))
    return f"| {name} | {len(functions)} | {len(set(files))} | {changes} |"


def print_functions(functions: list[CodeType]) -> None:
    """Print the functions in order, with the file's name once for consecutive functions of a file."""
    for file, group in itertools.groupby(functions, key=lambda code: code.co_filename):
        print(f"    {Path(file).relative_to(ROOT)}: {', '.join(code.co_qualname for code in group)}")


async def send(session: aiohttp.ClientSession, url: str, kind: Kind, number: int) -> None:
    """Send one request and read its response to the end."""
    data = json.dumps(kind.body).replace("{number}", str(number))
    headers = {"content-type": "application/json"}
    async with session.post(url + kind.path, data=data, headers=headers) as response:
        content = await response.read()
        if response.status != 200 or (kind.body.get("stream") and b"[DONE]" not in content):
            raise RuntimeError(f"{kind.name}: {response.status} {content[:500]!r}")


async def trace(url: str, key: str, *, show: Callable[[Kind], bool]) -> None:
    """Trace every kind of request and print the table."""
    numbers = itertools.count()
    idle = Trace()
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:
        await send(session, url, KINDS[0], next(numbers))  # both processes are ready
        with idle.running():
            await asyncio.sleep(IDLE_S)
        for kind in KINDS:
            for _ in range(WARM_UPS):
                await send(session, url, kind, next(numbers))
            traces = []
            for _ in range(RUNS):
                traces.append(Trace())
                with traces[-1].running():
                    await send(session, url, kind, next(numbers))
                    await asyncio.sleep(SETTLE_S)
            functions = in_every(traces, idle)
            print(row(kind.name, functions), flush=True)
            if show(kind):
                print_functions(functions)


async def run(settings: Settings, *, show: Callable[[Kind], bool]) -> None:
    """Run an API and a worker in this process, trace the requests, and stop both."""
    key = await create_first_project(settings)
    assert key is not None, "the database is new"
    stop = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(workers.process.run(settings, stop))
            tasks.create_task(api.process.run(settings, listener, stop))
            try:
                await trace(url, key, show=show)
            finally:
                stop.set()


@contextmanager
def servers() -> Iterator[Settings]:
    """Run PostgreSQL, NATS and the stub provider until the block ends."""
    with tempfile.TemporaryDirectory(prefix="gw-path-", ignore_cleanup_errors=True) as directory:
        postgres, nats = EmbeddedPostgres(Path(directory) / "pg", durable=False), EmbeddedNats(Path(directory) / "nats")
        stub = subprocess.Popen([sys.executable, "-m", "bench.stub_provider"], cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert stub.stdout is not None
            provider = f"http://127.0.0.1:{int(stub.stdout.readline())}"
            database_url = postgres.start()
            migrate(database_url)
            yield load_settings(
                {
                    "GATEWAY_DATABASE_URL": database_url,
                    "GATEWAY_NATS_URL": nats.start(),
                    "GATEWAY_ENCRYPTION_KEY": b64encode(os.urandom(32)).decode(),
                    "OPENAI_API_KEY": "sk-bench",
                    "OPENAI_BASE_URL": f"{provider}/v1",
                    "ANTHROPIC_API_KEY": "sk-bench",
                    "ANTHROPIC_BASE_URL": provider,
                }
            )
        finally:
            nats.stop()
            postgres.stop()
            stub.terminate()
            stub.wait(5)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", metavar="WORD", help="print the functions of the kinds whose name has this word")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    print("| request | functions | files | changes of file |\n|---|---|---|---|", flush=True)
    with servers() as settings:
        asyncio.run(run(settings, show=lambda kind: arguments.show is not None and arguments.show in kind.name))


if __name__ == "__main__":
    main()
