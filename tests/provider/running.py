"""The test provider as a child process, with access to its bill and its recordings."""

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from msgspec import Struct, convert

from infra.child import start_child, stop_child


def _pass_on(output: IO[bytes]) -> None:
    """Print the provider's error output. If it were not read, the full pipe would block the provider."""
    for line in output:
        sys.stderr.write(line.decode(errors="replace"))


class RecordedRequest(Struct, frozen=True, kw_only=True):
    """A request as the provider received it."""

    number: int
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    """The headers, unchanged and in their order."""
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, ignoring the case of its name; None if it was not sent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class RecordedAnswer(Struct, frozen=True, kw_only=True):
    """The part of a response that the provider has sent, for the request of the same number."""

    number: int
    status: int | None
    """None until the head has been sent."""
    headers: tuple[tuple[str, str], ...]
    body: bytes
    """The body, without the framing of chunks."""
    whole: bool
    """True once the last byte has been sent; never if the response was cut."""


class RunningProvider:
    """A provider that runs until it is stopped."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.address = f"http://127.0.0.1:{port}"
        self.openai_base_url = f"{self.address}/v1"
        self.anthropic_base_url = self.address

    @classmethod
    def start(cls) -> "RunningProvider":
        root = Path(__file__).parent.parent.parent
        process = start_child([sys.executable, "-m", "tests.provider.server"], cwd=root, output=subprocess.PIPE)
        assert process.stdout is not None
        running = cls(process, json.loads(process.stdout.readline())["port"])
        threading.Thread(target=_pass_on, args=(process.stdout,), daemon=True).start()
        return running

    def stop(self) -> None:
        stop_child(self._process, signal.SIGTERM, timeout_s=5)

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.address}{path}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def state(self) -> dict[str, Any]:
        return self._get("/_bill")

    def bill(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.state()["bill"]
        return rows

    def billed_nano_usd(self) -> Decimal:
        return sum((Decimal(row["nano_usd"]) for row in self.bill()), Decimal(0))

    def requests(self, last: int = 256) -> list[RecordedRequest]:
        """Return the last requests, oldest first: calls, and requests for models and token counts."""
        return convert(self._get(f"/_requests?last={last}")["requests"], list[RecordedRequest])

    def answers(self, last: int = 256) -> list[RecordedAnswer]:
        """Return the responses to the last requests, in the order of the requests."""
        return convert(self._get(f"/_answers?last={last}")["answers"], list[RecordedAnswer])

    @property
    def calls(self) -> int:
        return int(self.state()["calls"])
