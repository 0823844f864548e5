"""A real Prometheus that scrapes a gateway, and its tool that checks rules."""

import json
import re
import shutil
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from infra.child import clean_environment, start_child, stop_child

ROOT = Path(__file__).parent.parent.parent
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
ALERT_CASES = Path(__file__).parent / "prometheus" / "alert_cases.yaml"
REQUEST_TIMEOUT_S = 10
TOOL_TIMEOUT_S = 120
STOP_TIMEOUT_S = 10
SCRAPE_INTERVAL_S = 1
RATE_INTERVAL = "30s"
"""What stands for Grafana's `$__rate_interval` here."""


class PrometheusMissingError(Exception):
    """Prometheus cannot run here. The message has the reason."""


def find(program: str) -> str:
    """Return the path of `prometheus` or `promtool`.

    Raises:
        PrometheusMissingError: it is not installed.

    """
    path = shutil.which(program)
    if path is None:
        raise PrometheusMissingError(f"{program} is not installed (Debian: apt-get install prometheus)")
    return path


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Prometheus' tool. Raises as `find`."""
    command = [find("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)


class Prometheus:
    """A Prometheus that runs until it is stopped."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str) -> None:
        self._process = process
        self._address = address

    @classmethod
    def start(cls, directory: Path, target: str) -> "Prometheus":
        """Scrape the gateway at `target` (host and port), with the rules of the deployment. Raises as `find`."""
        program = find("prometheus")
        directory.mkdir()
        config = {
            "global": {"scrape_interval": f"{SCRAPE_INTERVAL_S}s", "evaluation_interval": f"{SCRAPE_INTERVAL_S}s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "ai-gateway", "static_configs": [{"targets": [target]}]}],
        }
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with (directory / "log").open("wb") as log:
            process = start_child(
                (
                    program,
                    f"--config.file={directory / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address={address}",
                ),
                env=clean_environment(),
                output=log.fileno(),
            )
        return cls(process, address)

    def is_ready(self) -> bool:
        """Return True once it answers and has scraped its target."""
        try:
            return self.values("up") == [1.0]
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression, as Grafana writes it."""
        asked = expression.replace("$__rate_interval", RATE_INTERVAL)
        answer = self._get("query?" + urllib.parse.urlencode({"query": asked}))
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def values(self, expression: str) -> list[float]:
        """Return the values alone."""
        return [float(sample["value"][1]) for sample in self.query(expression)]

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules with how their last evaluation went."""
        return [rule for group in self._get("rules")["data"]["groups"] for rule in group["rules"]]

    def stop(self) -> None:
        """Stop it."""
        stop_child(self._process, signal.SIGTERM, timeout_s=STOP_TIMEOUT_S)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}", timeout=REQUEST_TIMEOUT_S) as answer:
            return json.load(answer)


def metrics_in(expression: str) -> set[str]:
    """Return the gateway's own metrics that an expression names, without what a histogram or a counter adds."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bgateway_\w+", expression)}
