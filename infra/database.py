"""Connections to PostgreSQL: pools with explicit limits, and the migrations. Contains no queries of other modules."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import structlog

from domain.errors import Overloaded, Unavailable
from infra.progress import Progress, untold
from migrations.roles import Roles

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
REQUEST_COMMAND_TIMEOUT_S = 15.0
"""The limit for a statement that a request or a job waits for."""
HOT_COMMAND_TIMEOUT_S = 10.0
"""The limit for a statement that every request runs, and that takes milliseconds."""
ACQUIRE_TIMEOUT_S = 10.0
"""The limit for getting a connection from a pool, and for returning it."""
BRIEF_RELEASE_S = 1.0
"""The limit for returning one after a look, which tells nobody that what it asked for was done."""
CLOSE_TIMEOUT_S = 5.0
POOL_MAX_CONNECTIONS = 8
REPORT_POOL_MAX_CONNECTIONS = 3
REPORT_COMMAND_TIMEOUT_S = 5.0
"""The limit for a statement of a page, a report or an export."""
REPORT_ACQUIRE_TIMEOUT_S = 1.0
MAX_REPORTS_WAITING = 64
"""Statements of reports that wait for a connection."""
REPORT_RETRY_AFTER_S = 5.0
MAX_QUERIES = 50_000
MAX_IDLE_S = 300.0
"""asyncpg's defaults for a connection of a pool."""
MIGRATION_LOCK = 0x6761746577617921
"""The advisory lock under which migrations run. If two start at once, the second waits and has nothing left to do."""

MIGRATION_POLL_S = 0.5

MIGRATIONS = Path(__file__).parent.parent / "migrations"
"""Their files."""

_REVISION = re.compile(r'^(revision|down_revision) = "(\w+)"$', re.MULTILINE)
"""What a migration's file says of its place."""

_ANY_PLANS: Mapping[str, str] = {}
"""As PostgreSQL's settings have it."""
_HOT_PATH_PLANS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Every hot statement looks rows up by key, so one plan stays right for ever. PostgreSQL plans it once, and a plan that
was made while a table was empty does not scan the table later."""

_REPORT_PLANS = {"plan_cache_mode": "force_custom_plan", "max_parallel_workers_per_gather": "0"}
"""A report reads ten rows or a hundred thousand, as its days, keys and projects are: each is planned for its own. One
plan for all compares each row with a hundred keys in turn. A second process takes longer to start than most reports.
"""

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,  # if the server went away before the statement was sent
)
"""The errors that asyncpg raises when the server goes away. What was under way may have been committed."""

_UNABLE = (
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""The errors of a server that cannot serve at the moment: its disk is full or broken, it lacks memory or connections,
it starts, or it has become a standby. Nothing was committed.
"""
DATABASE_AWAY = (Unavailable, *_LOST, *_UNABLE)
"""The errors of a database that cannot serve at the moment, as they are met anywhere."""
START_WAIT_S = 60.0
"""How long a process that starts waits for the database."""
START_POLL_S = 0.25

log = structlog.get_logger(__name__)

Pool: TypeAlias = asyncpg.Pool
Connection: TypeAlias = asyncpg.Connection


def _server_settings(name: str, plans: Mapping[str, str] = _ANY_PLANS) -> dict[str, str]:
    return {"application_name": name, "timezone": "UTC", "jit": "off", "synchronous_commit": "on", **plans}


class _PooledConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that is given back without a statement to the server: none of ours changes what a session has.

    A transaction that is still open is rolled back all the same. asyncpg's own statement took PostgreSQL as long as
    most do that run on a pool.
    """

    def get_reset_query(self) -> str:
        return ""


class _BoundedPool(asyncpg.Pool):  # type: ignore[misc]  # asyncpg has no types
    """A pool without a wait that has no end: asyncpg's own would wait for a connection, and for a close, for ever."""

    def acquire(self, *, timeout: float | None = ACQUIRE_TIMEOUT_S) -> Any:
        return super().acquire(timeout=timeout)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await super().close()
        except TimeoutError:  # the server does not answer: close without it
            self.terminate()


class _ReportPool(_BoundedPool):
    """Few connections for statements that may be slow. Whoever finds none free waits a moment, and is then refused."""

    _waiting = 0

    def acquire(self, *, timeout: float | None = REPORT_ACQUIRE_TIMEOUT_S) -> Any:
        return super().acquire(timeout=timeout)

    async def fetch(self, *arguments: Any, **options: Any) -> Any:
        return await _in_time(super().fetch(*arguments, **options))

    async def fetchrow(self, *arguments: Any, **options: Any) -> Any:
        return await _in_time(super().fetchrow(*arguments, **options))

    async def fetchval(self, *arguments: Any, **options: Any) -> Any:
        return await _in_time(super().fetchval(*arguments, **options))

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109 - as asyncpg has it: all ways in use it
        if self._waiting >= MAX_REPORTS_WAITING:
            raise _reports_are_full()
        self._waiting += 1
        try:
            return await super()._acquire(timeout)
        except TimeoutError:
            if self.get_size() == self.get_max_size() and self.get_idle_size() == 0:
                raise _reports_are_full() from None
            raise  # the server does not let anybody in
        finally:
            self._waiting -= 1


def _reports_are_full() -> Overloaded:
    return Overloaded(
        "other pages and reports take all the time that they have together: try again in a moment",
        retry_after_s=REPORT_RETRY_AFTER_S,
    )


async def _in_time(statement: Awaitable[Any]) -> Any:
    try:
        return await statement
    except TimeoutError:
        raise takes_too_long() from None


def takes_too_long() -> Overloaded:
    """Return the error of a statement of a report that was ended because it took too long."""
    return Overloaded(
        f"this takes longer than {REPORT_COMMAND_TIMEOUT_S:.0f} seconds to find: ask for fewer days, or for less",
        retry_after_s=REPORT_RETRY_AFTER_S,
    )


async def open_report_pool(database_url: str, *, name: str) -> Pool:
    """Open the pool for pages, lists, reports and exports, so that slow ones take no connection from a call.

    Its statements raise `Overloaded` if no connection is free, or if they take too long. Raises as `open_pool`.
    """
    return await _open_pool(
        database_url,
        name=name,
        size=REPORT_POOL_MAX_CONNECTIONS,
        command_timeout_s=REPORT_COMMAND_TIMEOUT_S,
        pool_class=_ReportPool,
        plans=_REPORT_PLANS,
    )


async def open_pool(
    database_url: str,
    *,
    name: str,
    size: int = POOL_MAX_CONNECTIONS,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
    wait_s: float = 0.0,
) -> Pool:
    """Open a pool for the statements that not every request runs. `name` shows in pg_stat_activity.

    A server that is away is waited for, for `wait_s`.

    Raises:
        OSError, asyncpg.PostgresError: the server cannot be reached, or refuses.

    """
    until_s, is_told = time.monotonic() + wait_s, False
    while True:
        try:
            return await _open_pool(database_url, name=name, size=size, command_timeout_s=command_timeout_s)
        except DATABASE_AWAY as error:
            if time.monotonic() >= until_s:
                raise
            if not is_told:
                log.warning("database_awaited", error=type(error).__name__, message=str(error), for_s=wait_s)
                is_told = True
        await asyncio.sleep(START_POLL_S)


async def _open_pool(
    database_url: str,
    *,
    name: str,
    size: int,
    command_timeout_s: float,
    pool_class: type[Pool] = _BoundedPool,
    plans: Mapping[str, str] = _ANY_PLANS,
) -> Pool:
    return await pool_class(
        database_url,
        min_size=1,
        max_size=size,
        max_queries=MAX_QUERIES,
        max_inactive_connection_lifetime=MAX_IDLE_S,
        loop=None,
        connection_class=_PooledConnection,
        record_class=asyncpg.Record,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings=_server_settings(name, plans),
    )


@asynccontextmanager
async def brief(pool: Pool, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection for a look that takes `timeout_s` at most, and is given up a moment later if the server hangs.

    When a statement is cancelled, a pool waits for the server's word on that, else for as long as for a connection.

    Raises:
        TimeoutError: no connection was free, or the look took too long.

    """
    async with asyncio.timeout(timeout_s):
        connection = await pool.acquire()
        try:
            yield connection
        finally:
            await pool.release(connection, timeout=BRIEF_RELEASE_S)


class OutcomeUnknown(Unavailable):
    """The connection died while a statement was under way: it may have been committed."""


REHEARSED = "rehearsal"
"""The id of what is done once before the first request, and rolled back. No request, key or project has it."""


@contextmanager
def rehearsing() -> Iterator[None]:
    """Log a failure of the database in the block and go on: the next statement connects, or fails, by itself."""
    try:
        yield
    except (Unavailable, *_LOST, asyncpg.PostgresError) as error:
        log.warning("not_rehearsed", reason=type(error).__name__)


class HeldConnection:
    """A connection for the hot path: one statement at a time, no pool, plans prepared once.

    If the connection is lost, the next call connects again.
    """

    def __init__(self, database_url: str, *, name: str) -> None:
        self._database_url = database_url
        self._name = name
        self._connection: Connection | None = None

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement and return its rows.

        Raises:
            Unavailable: no connection could be made, or the server cannot serve; nothing was committed.
            OutcomeUnknown: the connection died while the statement ran.
            asyncpg.PostgresError: the statement failed; nothing was committed.

        """
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await self._connect()
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return rows
        except _LOST as error:
            connection.terminate()
            raise OutcomeUnknown(f"the database went away: {type(error).__name__}", retry_after_s=1) from error
        except _UNABLE as error:
            raise Unavailable(f"the database cannot serve: {type(error).__name__}", retry_after_s=1) from error

    async def rehearse(self, query: str, *arguments: Any) -> None:
        """Connect, run a statement and roll it back, so that its functions are planned before a caller waits for them.

        A statement that fails is only logged: the next one connects, or fails, by itself.
        """
        with rehearsing():
            await self.fetch("SELECT 1")
            assert self._connection is not None, "it was just used"
            rehearsal = self._connection.transaction()
            await rehearsal.start()
            try:
                await self._connection.fetch(query, *arguments)
            finally:
                await rehearsal.rollback()

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(*_LOST):  # asyncpg has aborted the connection by then
                await self._connection.close(timeout=CLOSE_TIMEOUT_S)

    async def _connect(self) -> Connection:
        try:
            return await asyncpg.connect(
                self._database_url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=HOT_COMMAND_TIMEOUT_S,
                server_settings=_server_settings(self._name, _HOT_PATH_PLANS),
            )
        except (*_LOST, asyncpg.PostgresError) as error:
            raise Unavailable(f"the database is away: {type(error).__name__}", retry_after_s=1) from error


@asynccontextmanager
async def database_errors() -> AsyncIterator[None]:
    """Turn the loss of the database during a read, and what it cannot do at the moment, into `Unavailable`."""
    try:
        yield
    except Unavailable:
        raise
    except DATABASE_AWAY as error:
        raise Unavailable(f"the database is away: {type(error).__name__}", retry_after_s=1) from error


def migrate(
    database_url: str, roles: Roles | None = None, default_role: str | None = None, progress: Progress = untold
) -> list[str]:
    """Upgrade the database to the newest revision, replace its functions, and grant the roles what they need.

    `database_url` is that of the owner. A process that `roles` does not name keeps the role that it has in the
    database; if it has none, it is `default_role`, and without that the owner. Several processes may migrate at once.
    `progress` counts revisions, and one more for the functions and grants; it hears nothing if no revision is due.
    Returns what the roles may do that they should not, in words.
    """
    # only the process that migrates needs these: they take a second to import
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine, text  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    from infra.schema_state import SCHEMA_STATE, schema_state  # noqa: PLC0415 - it imports this module
    from migrations.grants import grant, shares_so_far  # noqa: PLC0415
    from migrations.revision import run_functions  # noqa: PLC0415

    engine = create_engine(
        _alembic_url(database_url), poolclass=NullPool, connect_args={"connect_timeout": int(CONNECT_TIMEOUT_S)}
    )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        _lock_migrations(connection)
        former = shares_so_far(connection)
        connection.commit()
        config.attributes["connection"] = connection
        done, total = itertools.count(1), _pending_revisions(config, connection) + 1
        config.attributes["on_version_apply"] = lambda **_: progress(next(done), total)
        command.upgrade(config, "head")
        connection.commit()
        with connection.begin():
            run_functions(connection)
            connection.execute(text("SELECT recount_held()"))
            problems = grant(connection, roles, default_role, former)
            connection.execute(text(SCHEMA_STATE.format(schema_state(roles, default_role))))
    engine.dispose()
    if total > 1:
        progress(total, total)
    return problems


def _lock_migrations(connection: Any) -> None:
    """Take the lock, for as long as the connection lives, once the process that has it is done.

    Whoever waited inside of PostgreSQL would wait in a transaction, which an index that is built meanwhile waits for.
    """
    from sqlalchemy import text  # noqa: PLC0415 - as `migrate`

    while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}):
        connection.commit()
        time.sleep(MIGRATION_POLL_S)
    connection.commit()


def _pending_revisions(config: Any, connection: Any) -> int:
    """Return how many revisions Alembic is going to run."""
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - as `migrate`
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    current = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    return len(list(ScriptDirectory.from_config(config).iterate_revisions("head", current or "base")))


async def warn_about_role(pool: Pool) -> None:
    """Write a line to the process's log for whatever the pool's role may do that a process must not.

    Raises:
        Unavailable: the database cannot be reached.

    """
    try:
        async with database_errors():
            problems = [row[0] for row in await pool.fetch("SELECT role_problems(current_user)")]
    except (asyncpg.UndefinedFunctionError, asyncpg.InsufficientPrivilegeError):
        problems = ["has not been granted what it needs: run `gateway migrate`"]
    for problem in problems:
        log.warning("database_role", problem=problem)


def _alembic_url(database_url: str) -> str:
    parts = urlsplit(database_url)
    return urlunsplit(parts._replace(scheme="postgresql+psycopg"))


def newest_revision() -> str:
    """Return the newest revision of this code's migrations: the one that no other is made for.

    Read from their files, since Alembic, which knows it too, takes as long to import as everything else of a process.
    """
    links = [
        dict(_REVISION.findall(file.read_text(encoding="utf-8")))
        for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py")
    ]
    (head,) = {link["revision"] for link in links} - {link.get("down_revision") for link in links}
    return str(head)
