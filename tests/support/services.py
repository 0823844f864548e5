"""The real servers of the tests: from the environment, from containers, or from the wheels."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
from nats.js.errors import NotFoundError

from infra.broker import Broker
from infra.database import migrate
from infra.embedded_nats import EmbeddedNats
from infra.embedded_postgres import OWNER, ROLES, EmbeddedPostgres
from infra.ids import new_id
from infra.jobs import STREAM

TEMPLATE = "gateway_template"
EVERY_PROCESS = "gateway_every_process"
"""A role of the tests: it may do what the processes may do, all of them together."""


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
    """Make the roles, and migrate the template from which the database of each test is copied."""
    asyncio.run(_make_roles(server_url))
    asyncio.run(
        _execute(server_url, f"DROP DATABASE IF EXISTS {TEMPLATE}", f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
    )
    problems = migrate(as_role(_on(server_url, TEMPLATE), OWNER), ROLES)
    assert problems == []


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """Create a migrated, empty database for one test. Yield its URL, as a role that has those of all processes."""
    name = new_id("gateway_test")
    asyncio.run(_execute(server_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {OWNER}"))
    try:
        yield as_role(_on(server_url, name), EVERY_PROCESS)
    finally:
        asyncio.run(_execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


def as_role(database_url: str, role: str) -> str:
    """Return the URL for another role. Every role of the tests has the password of the server's."""
    parts = urlsplit(database_url)
    _, at, host = parts.netloc.rpartition("@")
    password = f":{parts.password}" if parts.password else ""
    return urlunsplit(parts._replace(netloc=f"{role}{password}{at or '@'}{host}"))


async def _make_roles(server_url: str) -> None:
    password = unquote(urlsplit(server_url).password or "")
    secret = f" PASSWORD '{password}'" if password else ""
    connection = await asyncpg.connect(server_url)
    try:
        for role in (OWNER, *ROLES.values(), EVERY_PROCESS):
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} LOGIN{secret}")
        await connection.execute(f"GRANT {', '.join(ROLES.values())} TO {EVERY_PROCESS}")
    finally:
        await connection.close()


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
