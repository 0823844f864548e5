"""PostgreSQL with TLS: each way in which the gateway connects checks the server's certificate and name."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy.exc import OperationalError

from deploy.certificates import Authority
from domain.errors import Unavailable
from infra.database import HeldConnection, migrate, open_pool
from infra.embedded_postgres import OWNER
from tests.support.services import as_role
from tests.support.tls_front import HOST, tls_front


@pytest.fixture
def authority() -> Authority:
    return Authority("ours")


@pytest.fixture
def context(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    """Return the server's side: its certificate, and the authority of the clients that it lets in."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*authority.sign(tmp_path, HOST))
    made.load_verify_locations(cadata=authority.pem.decode())
    return made


@pytest.fixture
def port(database_url: str, context: ssl.SSLContext) -> Iterator[int]:
    with tls_front(database_url, context) as served:
        yield served


def url_of(database_url: str, port: int, *options: str, host: str = HOST) -> str:
    """Return the address of a database behind TLS for its owner, who migrates it, with libpq's options."""
    parts = urlsplit(as_role(database_url, OWNER))
    user = parts.netloc.rpartition("@")[0]
    return f"postgresql://{user}@{host}:{port}{parts.path}?sslmode=verify-full&{'&'.join(options)}"


async def is_let_in(url: str) -> bool:
    """Connect in each way that the gateway has. They agree: it is one answer."""
    held = HeldConnection(url, name="tests")
    try:
        await held.fetch("SELECT 1")
        is_held = True
    except Unavailable:
        is_held = False
    await held.close()
    try:
        pool = await open_pool(url, name="tests")
        has_pool = await pool.fetchval("SELECT 1") == 1
        await pool.close()
    except OSError:
        has_pool = False
    try:
        migrate(url)
        is_migrated = True
    except OperationalError:
        is_migrated = False
    assert is_held == has_pool == is_migrated
    return is_held


async def test_a_server_is_known_by_its_authority_and_name(
    database_url: str, port: int, authority: Authority, tmp_path: Path
) -> None:
    right = f"sslrootcert={authority.write(tmp_path / 'right')}"
    wrong = f"sslrootcert={Authority('another').write(tmp_path / 'wrong')}"
    assert await is_let_in(url_of(database_url, port, right))
    assert not await is_let_in(url_of(database_url, port, wrong))
    assert not await is_let_in(url_of(database_url, port, right, host="localhost")), (
        "the certificate is of another name"
    )


async def test_a_server_that_asks_for_a_certificate_gets_one(
    database_url: str, port: int, authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones ask after the client believes to be let in
    root = f"sslrootcert={authority.write(tmp_path / 'root')}"
    (tmp_path / "own").mkdir()
    certificate, key = authority.sign(tmp_path / "own", "gateway")
    assert await is_let_in(url_of(database_url, port, root, f"sslcert={certificate}", f"sslkey={key}"))
    assert not await is_let_in(url_of(database_url, port, root))


async def test_a_server_without_tls_is_not_spoken_to(database_url: str, authority: Authority, tmp_path: Path) -> None:
    with tls_front(database_url, None) as port:
        url = url_of(database_url, port, f"sslrootcert={authority.write(tmp_path / 'root')}")
        assert not await is_let_in(url)
        assert await is_let_in(url.replace("verify-full", "disable"))
