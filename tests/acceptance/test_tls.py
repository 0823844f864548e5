"""A gateway whose servers take TLS alone, and know it by its key."""

import ssl
from pathlib import Path

import aiohttp

from deploy.certificates import Authority
from tests.support.gateway import Gateway, new_project
from tests.support.nats_server import HOST, nats_server
from tests.support.nats_users import new_nkey, write_secret
from tests.support.tls_front import tls_front


async def test_every_process_speaks_to_both_servers_over_tls(
    database_url: str, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    authority, user = Authority("ours"), new_nkey()
    ca = authority.write(tmp_path / "ca")
    certificate, key = authority.sign(tmp_path, HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    lines = (
        f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
        f'authorization {{ users: [ {{ nkey: "{user.public_key}" }} ] }}\nmax_payload: 8MB\n'
    )
    name = database_url.partition("?")[0].rpartition("/")[2]
    with tls_front(database_url, context) as database_port, nats_server(tmp_path, lines) as nats_port:
        url = f"postgresql://postgres@{HOST}:{database_port}/{name}?sslmode=verify-full&sslrootcert={ca}"
        env = {
            "GATEWAY_DATABASE_URL_FILE": str(write_secret(tmp_path / "database_url", url)),
            "GATEWAY_NATS_URL": f"tls://{HOST}:{nats_port}",
            "GATEWAY_NATS_CA": str(ca),
            "GATEWAY_NATS_CREDS": str(write_secret(tmp_path / "seed", user.seed)),
        }
        gateway = Gateway.start(tmp_path / "data", env=env)
        try:
            client = await new_project(gateway, session)
            status, answer, _ = await client.chat("Hello", model="echo")
            assert status == 200, answer
            status, stats, _ = await client.call("GET", "/usage/stats")
            assert stats["data"]["totals"]["requests"] == 1
            assert "heartbeats_interrupted" not in gateway.errors()
        finally:
            gateway.stop()
