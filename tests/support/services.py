"""The real servers of the tests: from the environment, from containers, or from the wheels."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from nats.js.errors import NotFoundError

from infra.broker import Broker
from infra.database import migrate
from infra.embedded_nats import EmbeddedNats
from infra.embedded_postgres import EmbeddedPostgres
from infra.ids import new_id
from infra.jobs import STREAM

TEMPLATE = "gateway_template"


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server for the test run. Yield the URL of its default database, which no test uses."""
    if url := os.environ.get("GATEWAY_DATABASE_URL"):
        yield url
    elif os.environ.get("GATEWAY_TEST_SERVICES") == "containers":
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("postgres:18") as container:
            yield container.get_connection_url(driver=None)
    else:
        with tempfile.TemporaryDirectory(prefix="gw-", ignore_cleanup_errors=True) as directory:
            server = EmbeddedPostgres(Path(directory) / "pg", durable=False)
            try:
                yield server.start()
            finally:
                server.stop()


@contextmanager
def nats() -> Iterator[str]:
    """Run a NATS server with JetStream for the test run. Yield its URL."""
    if url := os.environ.get("GATEWAY_NATS_URL"):
        yield url
    elif os.environ.get("GATEWAY_TEST_SERVICES") == "containers":
        from testcontainers.nats import NatsContainer

        with NatsContainer("nats:2", jetstream=True) as container:
            yield container.nats_uri()
    else:
        with tempfile.TemporaryDirectory(prefix="gw-", ignore_cleanup_errors=True) as directory:
            server = EmbeddedNats(Path(directory))
            try:
                yield server.start()
            finally:
                server.stop()


def make_template(server_url: str) -> None:
    """Migrate the template from which the database of each test is copied."""
    asyncio.run(_execute(server_url, f"DROP DATABASE IF EXISTS {TEMPLATE}", f"CREATE DATABASE {TEMPLATE}"))
    migrate(_on(server_url, TEMPLATE))


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """Create a migrated, empty database for one test. Yield its URL."""
    name = new_id("gateway_test")
    asyncio.run(_execute(server_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}"))
    try:
        yield _on(server_url, name)
    finally:
        asyncio.run(_execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def remove_jobs(nats_url: str) -> None:
    """Delete the stream of jobs if it exists."""
    broker = Broker()
    await broker.connect([nats_url], name="tests")
    with suppress(NotFoundError):
        await broker.client.jetstream().delete_stream(STREAM)
    await broker.close()


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _on(url: str, database_name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database_name}"))
