"""The real servers that the tests run on: the environment's, containers', or the wheels'."""

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
    """A PostgreSQL server for the run; yields the URL of a database on it that is nobody's."""
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
    """A NATS server with JetStream for the run."""
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
    """Migrate the database that every test's own is copied from."""
    asyncio.run(_execute(server_url, f"DROP DATABASE IF EXISTS {TEMPLATE}", f"CREATE DATABASE {TEMPLATE}"))
    migrate(_on(server_url, TEMPLATE))


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """A migrated, empty database of a test's own."""
    name = new_id("gateway_test")
    asyncio.run(_execute(server_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}"))
    try:
        yield _on(server_url, name)
    finally:
        asyncio.run(_execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def remove_jobs(nats_url: str) -> None:
    """Delete the stream of jobs, where there is one."""
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
