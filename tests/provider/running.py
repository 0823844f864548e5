"""The test provider as a process, and its bill."""

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
    """Show what the provider complains of, which would block it in the end were nobody to read it."""
    for line in output:
        sys.stderr.write(line.decode(errors="replace"))


class RecordedRequest(Struct, frozen=True, kw_only=True):
    """A request as it reached the provider."""

    number: int
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    """As they stood, in their order."""
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, whatever the case of its name; None where it was not sent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class RecordedAnswer(Struct, frozen=True, kw_only=True):
    """What the provider has sent for the request of the same number."""

    number: int
    status: int | None
    """None until its head is sent."""
    headers: tuple[tuple[str, str], ...]
    body: bytes
    """Without the framing of chunks."""
    whole: bool
    """False while it is under way, and for ever when it was cut."""


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
        """The last requests, oldest first: calls, and what is asked of models and tokens."""
        return convert(self._get(f"/_requests?last={last}")["requests"], list[RecordedRequest])

    def answers(self, last: int = 256) -> list[RecordedAnswer]:
        """What was sent for each of the last requests, in the order of these."""
        return convert(self._get(f"/_answers?last={last}")["answers"], list[RecordedAnswer])

    @property
    def calls(self) -> int:
        return int(self.state()["calls"])
