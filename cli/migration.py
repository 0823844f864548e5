"""Migrates the database in a process of its own: `gateway up` would keep for ever what a migration imports."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence

from cli.processes import fail
from cli.supervisor import say


async def migrate_apart(argv: Sequence[str], env: Mapping[str, str], stop: asyncio.Event) -> bool:
    """Run `gateway migrate`, whose command is `argv`, and repeat what it says. If it fails, print so and exit.

    False: it was ended because `stop` was set. What a revision had begun is undone.
    """
    process = await asyncio.create_subprocess_exec(
        *argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )

    async def end() -> None:
        await stop.wait()
        process.terminate()

    ending = asyncio.create_task(end())
    assert process.stderr is not None, "a pipe"
    async for line in process.stderr:
        say("up", line.decode(errors="replace").rstrip("\n"))
    code = await process.wait()
    ending.cancel()
    if stop.is_set():
        return False
    if code:
        fail(f"the database was not migrated: `gateway migrate` ended with exit code {code}")
    return True
