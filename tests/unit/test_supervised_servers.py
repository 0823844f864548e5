"""The supervisor is told that a server has ended, and starts it again until it comes up."""

import asyncio
import subprocess
import sys

from cli.supervisor import Output, Server
from infra.line_writer import LineWriter
from tests.support.waiting import eventually


class Launches:
    """Starts a process that ends at once; the second start fails, as if the server did not come up."""

    def __init__(self) -> None:
        self.count = 0
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        self.count += 1
        self.process = None
        if self.count == 2:
            raise RuntimeError("it does not answer")
        self.process = subprocess.Popen([sys.executable, "-c", ""])


async def test_server_that_did_not_come_up_is_started_again() -> None:
    launches, writer = Launches(), LineWriter()
    launches.launch()
    server = Server("postgresql", lambda: launches.process, launches.launch, Output(writer))
    watching = asyncio.create_task(server.watch())
    await eventually(lambda: launches.count >= 4)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    writer.close()
    if launches.process is not None:
        launches.process.wait()
