"""Migrates the database in a process of its own: `gateway up` would keep for ever what a migration imports."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence

from cli.processes import fail
from cli.supervisor import say


async def migrate_apart(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Run `gateway migrate`, whose command is `argv`, and repeat what it says. If it fails, print so and exit."""
    process = await asyncio.create_subprocess_exec(
        *argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None, "a pipe"
    async for line in process.stderr:
        say("up", line.decode(errors="replace").rstrip("\n"))
    if code := await process.wait():
        fail(f"the database was not migrated: `gateway migrate` ended with exit code {code}")
