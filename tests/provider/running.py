"""The test provider as a process, and its bill."""

import json
import signal
import subprocess
import sys
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

from infra.child import start_child, stop_child


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
        return cls(process, json.loads(process.stdout.readline())["port"])

    def stop(self) -> None:
        stop_child(self._process, signal.SIGTERM, timeout_s=5)

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.address}/_bill", timeout=10) as answer:
            state: dict[str, Any] = json.load(answer)
        return state

    def bill(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.state()["bill"]
        return rows

    def billed_nano_usd(self) -> Decimal:
        return sum((Decimal(row["nano_usd"]) for row in self.bill()), Decimal(0))

    @property
    def calls(self) -> int:
        return int(self.state()["calls"])
