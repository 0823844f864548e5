"""NATS with TLS and with users: processes are let in by each kind of credentials, and trust no server blindly."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.certificates import Authority
from deploy.make_secrets import make_secrets
from infra.broker import Broker
from infra.broker_access import ANONYMOUS, BrokerAccess
from infra.jobs import JobQueue
from tests.support.nats_server import HOST, nats_server
from tests.support.nats_users import new_nkey, new_operator, write_secret
from tests.support.waiting import eventually

CONFIG = Path(__file__).parent.parent.parent / "deploy" / "nats.conf"


async def is_let_in(url: str, access: BrokerAccess) -> bool:
    """Use the queue at an address. False: the server, or this client, has refused."""
    broker = Broker()
    connecting = asyncio.create_task(broker.connect([url], name="tests", access=access))
    await eventually(lambda: connecting.done() or broker.client.last_error is not None)
    if not connecting.done():
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        return False
    await connecting
    await JobQueue(broker).ensure()
    await broker.close()
    return True


async def test_a_user_with_a_password_is_let_in(tmp_path: Path) -> None:
    with nats_server(tmp_path, 'authorization { user: "gateway", password: "right" }') as port:
        assert await is_let_in(f"nats://gateway:right@{HOST}:{port}", ANONYMOUS)
        assert not await is_let_in(f"nats://gateway:wrong@{HOST}:{port}", ANONYMOUS)
        assert not await is_let_in(f"nats://{HOST}:{port}", ANONYMOUS)


async def test_a_user_with_a_key_is_let_in(tmp_path: Path) -> None:
    known, unknown = new_nkey(), new_nkey()
    right = BrokerAccess(credentials=write_secret(tmp_path / "right", f"{known.seed}\n"))
    wrong = BrokerAccess(credentials=write_secret(tmp_path / "wrong", unknown.seed))
    with nats_server(tmp_path, f'authorization {{ users: [ {{ nkey: "{known.public_key}" }} ] }}') as port:
        assert await is_let_in(f"nats://{HOST}:{port}", right)
        assert not await is_let_in(f"nats://{HOST}:{port}", wrong)
        assert not await is_let_in(f"nats://{HOST}:{port}", ANONYMOUS)


async def test_a_user_with_a_credentials_file_is_let_in(tmp_path: Path) -> None:
    operator = new_operator()
    right = BrokerAccess(credentials=write_secret(tmp_path / "right", operator.credentials))
    wrong = BrokerAccess(credentials=write_secret(tmp_path / "wrong", new_operator().credentials))
    with nats_server(tmp_path, operator.server_lines) as port:
        assert await is_let_in(f"nats://{HOST}:{port}", right)
        assert not await is_let_in(f"nats://{HOST}:{port}", wrong)


async def test_credentials_that_are_replaced_are_used_for_the_next_connection(tmp_path: Path) -> None:
    operator = new_operator()
    path = write_secret(tmp_path / "user.creds", operator.credentials)
    broker = Broker()
    with nats_server(tmp_path, operator.server_lines) as port:
        await broker.connect([f"nats://{HOST}:{port}"], name="tests", access=BrokerAccess(credentials=path))
    path.write_text("half of a fi")
    with nats_server(tmp_path, operator.server_lines, port):
        await eventually(lambda: "has no credentials" in str(broker.client.last_error))
        path.write_text(operator.credentials)
        await eventually(lambda: broker.is_connected)
        await broker.close()


async def test_servers_are_known_by_their_authority_and_name(tmp_path: Path) -> None:
    authority = Authority("ours")
    right = BrokerAccess(ca=authority.write(tmp_path / "right"))
    wrong = BrokerAccess(ca=Authority("another's").write(tmp_path / "wrong"))
    certificate, key = authority.sign(tmp_path, HOST)
    with nats_server(tmp_path, f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}') as port:
        assert await is_let_in(f"tls://{HOST}:{port}", right)
        assert not await is_let_in(f"tls://{HOST}:{port}", wrong)
        assert not await is_let_in(f"tls://{HOST}:{port}", ANONYMOUS)
        assert not await is_let_in(f"tls://localhost:{port}", right), "the certificate is of another name"


async def test_a_server_without_tls_is_not_spoken_to_where_tls_is_meant(tmp_path: Path) -> None:
    access = BrokerAccess(ca=Authority("ours").write(tmp_path / "ca"))
    with nats_server(tmp_path, "") as port:
        assert not await is_let_in(f"tls://{HOST}:{port}", access)


async def test_the_server_of_the_containers_lets_in_who_has_the_certificate_and_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    (tmp_path / "nats-users.conf").write_text((folder / "nats_users").read_text())
    lines = CONFIG.read_text().replace("/run/secrets", str(folder)).replace('"/data"', f'"{tmp_path / "data"}"')
    lines = re.sub(r"^http: .*$", "", lines, flags=re.MULTILINE).replace("0.0.0.0", HOST)
    files = {"ca": folder / "authority", "certificate": folder / "gateway_certificate", "key": folder / "gateway_key"}
    stranger = BrokerAccess(**files, credentials=write_secret(tmp_path / "stranger", new_nkey().seed))
    with nats_server(tmp_path, lines) as port, named("nats"):
        assert await is_let_in(f"tls://nats:{port}", BrokerAccess(**files, credentials=folder / "nats_seed"))
        assert not await is_let_in(f"tls://nats:{port}", BrokerAccess(ca=files["ca"], credentials=folder / "nats_seed"))
        assert not await is_let_in(f"tls://nats:{port}", BrokerAccess(**files))
        assert not await is_let_in(f"tls://nats:{port}", stranger)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Let a host name mean this machine, as the network of the containers does."""
    real = socket.getaddrinfo

    def resolved(host: str | bytes | None, *arguments: object, **options: object) -> object:
        return real(HOST if host in (name, name.encode()) else host, *arguments, **options)  # type: ignore[arg-type]

    socket.getaddrinfo = resolved  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = real
