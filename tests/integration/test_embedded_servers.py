"""The servers that `gateway up` brings: they know no secret, and open or follow nothing on the machine."""

import asyncio
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from infra.child import clean_environment
from infra.embedded_nats import EmbeddedNats
from infra.embedded_postgres import POSTGRES_VERSIONS, VERSION, EmbeddedPostgres
from infra.private_files import UnsafePathError

CANARY = "sk-canary-of-the-environment"


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a directory with a short path, because a socket's path is limited. What is temporary goes to one of its own:
    in the system's, other gateways come and go.
    """
    with tempfile.TemporaryDirectory(prefix="gw-", ignore_cleanup_errors=True) as made:
        temporary = Path(made) / "t"
        temporary.mkdir()
        temporary.chmod(0o1777)
        Path(made).chmod(0o711)  # as root, PostgreSQL runs as another user
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        yield Path(made)


@contextmanager
def running(server: EmbeddedPostgres) -> Iterator[str]:
    try:
        yield server.start()
    finally:
        server.stop()


def rows_of(url: str, *statements: str) -> list[str]:
    """Execute statements; return the first column of the last one."""
    return asyncio.run(_rows_of(url, *statements))


async def _rows_of(url: str, *statements: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            rows = await connection.fetch(statement)
    finally:
        await connection.close()
    return [str(row[0]) for row in rows]


def modes(*paths: Path) -> list[tuple[int, int]]:
    return [(stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) for path in paths]


def left_in_tmp() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("gateway-*")}


def test_postgresql_has_no_variable_of_the_operators(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GATEWAY_MASTER_KEY", "ANTHROPIC_CUSTOM_HEADERS", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, CANARY)
    with running(EmbeddedPostgres(directory / "pg", durable=False)) as url:
        lines = rows_of(url, "CREATE TABLE t (line text)", "COPY t FROM PROGRAM 'env'", "SELECT line FROM t")
    names = {line.partition("=")[0] for line in lines}
    assert "PATH" in names
    assert CANARY not in str(lines)
    assert not {name for name in names if name.startswith(("OPENAI", "ANTHROPIC", "GATEWAY", "AWS"))}


def test_nats_has_no_variable_of_the_operators(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    server = EmbeddedNats(directory / "nats")
    try:
        server.start()
        assert server.process is not None
        environ = Path(f"/proc/{server.process.pid}/environ").read_bytes()
    finally:
        server.stop()
    assert b"PATH=" in environ
    assert CANARY.encode() not in environ


def test_a_clean_environment_has_what_a_program_needs_to_run() -> None:
    environ = {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC", "OPENAI_API_KEY": CANARY, "PGOPTIONS": "-c fsync=off"}
    assert clean_environment(environ) == {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC"}


def test_the_directories_above_stay_closed(directory: Path) -> None:
    inner = directory / "outer" / "inner"
    inner.mkdir(parents=True)
    above = (directory, inner.parent, inner)
    for path in above:
        path.chmod(0o700)
    before = modes(*above)
    server = EmbeddedPostgres(inner / "pg", durable=False)
    for _ in range(2):  # the second start finds the files of the first
        with running(server) as url:
            assert rows_of(url, "SELECT 1") == ["1"]
            assert modes(*above) == before
    assert stat.S_IMODE((inner / "pg" / "data").stat().st_mode) == 0o700


def test_the_server_does_not_act_as_roots_group(directory: Path) -> None:
    with running(EmbeddedPostgres(directory / "pg", durable=False)) as url:
        (ids,) = rows_of(url, "CREATE TABLE t (line text)", "COPY t FROM PROGRAM 'id -G'", "SELECT line FROM t")
    assert os.geteuid() != 0 or "0" not in ids.split()


def test_programs_behind_a_closed_directory_are_copied_and_stay_closed(directory: Path) -> None:
    binaries = POSTGRES_VERSIONS[VERSION]
    package = binaries.parent.parent
    closed = directory / "closed"
    shutil.copytree(binaries.parent, closed / package.name / binaries.parent.name)
    if (libraries := package.with_name(f"{package.name}.libs")).is_dir():
        shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    programs = closed / package.name / binaries.parent.name / "bin"
    (programs / "postgres").chmod(0o700)
    left, before = left_in_tmp(), modes(directory, closed, programs, programs / "postgres")
    with running(EmbeddedPostgres(directory / "pg", durable=False, binaries=programs)) as url:
        assert rows_of(url, "SELECT to_tsvector('english', 'running')::text") == ["'run':1"]
        assert modes(directory, closed, programs, programs / "postgres") == before
    assert left_in_tmp() <= left


def test_a_link_that_waits_in_tmp_is_not_followed(directory: Path) -> None:
    home = directory / ("long" * 30) / "pg"
    victim = directory / "victim"
    victim.mkdir(0o755)
    name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
    planted = Path(tempfile.gettempdir()) / f"gateway-{name}"
    planted.symlink_to(victim)
    before, left = modes(victim), left_in_tmp()
    try:
        with running(EmbeddedPostgres(home, durable=False)) as url:
            assert rows_of(url, "SELECT 1") == ["1"]
            (made,) = left_in_tmp() - left
            assert stat.S_IMODE((Path(tempfile.gettempdir()) / made / "socket").stat().st_mode) == 0o700
    finally:
        planted.unlink()
    assert modes(victim) == before
    assert list(victim.iterdir()) == []
    assert left_in_tmp() <= left


def test_what_a_killed_run_left_in_tmp_is_removed(directory: Path) -> None:
    home, left = directory / ("long" * 30) / "pg", left_in_tmp()
    with running(EmbeddedPostgres(home, durable=False)):
        pass
    forgotten = tempfile.mkdtemp(prefix="gateway-")
    (home / "runtime").write_text(forgotten)
    (home / "runtime").chmod(0o600)
    with running(EmbeddedPostgres(home, durable=False)):
        assert not Path(forgotten).exists()
    assert left_in_tmp() <= left


@pytest.mark.parametrize("name", ["", "data", "socket", "postgresql.log"])
def test_postgresql_follows_no_link_in_its_directory(directory: Path, name: str) -> None:
    assert_not_followed(directory, name, lambda home: EmbeddedPostgres(home, durable=False))


@pytest.mark.parametrize("name", ["", "jetstream", "nats.conf", "nats.log"])
def test_nats_follows_no_link_in_its_directory(directory: Path, name: str) -> None:
    assert_not_followed(directory, name, EmbeddedNats)


def test_nats_does_not_write_its_number_through_a_link(directory: Path) -> None:
    home = directory / "nats"
    home.mkdir(0o700)
    (directory / "victim").write_text("kept")
    (home / "nats.pid").symlink_to(directory / "victim")
    server = EmbeddedNats(home)
    try:
        server.start()
    finally:
        server.stop()
    assert (directory / "victim").read_text() == "kept"


def assert_not_followed(
    directory: Path, name: str, server_in: Callable[[Path], EmbeddedNats | EmbeddedPostgres]
) -> None:
    """Plant a link under a name, to a file or a directory, and start a server."""
    home, victim = directory / "home", directory / "victim"
    if "." in name:
        victim.write_text("kept")
    else:
        victim.mkdir(0o755)
    if name:
        home.mkdir(0o700)
    (home / name).symlink_to(victim)
    before = modes(victim)
    server = server_in(home)
    try:
        with pytest.raises(UnsafePathError):
            server.start()
    finally:
        server.stop()
    assert modes(victim) == before
    assert victim.read_text() == "kept" if victim.is_file() else list(victim.iterdir()) == []
