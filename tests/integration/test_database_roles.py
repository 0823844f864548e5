"""The roles of the processes own nothing: they call functions and read, and the projector writes the read models."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from domain.events import DEFAULT_RATE_LIMIT_PER_MINUTE, ApiKeyIssued, KeySettings, ProjectCreated, key_stream
from infra.database import migrate
from infra.embedded_postgres import OWNER, ROLES, EmbeddedPostgres
from infra.event_log import Commit
from migrations.roles import FUNCTIONS, PROJECTOR_TABLES, SECRET_TABLES, Process
from projections.rebuild import rebuild
from projections.registry import EVERY
from tests.support.ledger import START, RealLedger, ask, attempt, cost
from tests.support.services import EVERY_PROCESS, as_role

PASSED_BY = (
    "INSERT INTO events SELECT position + 1000, stream, version + 1000, type, project_id, at, data, digest FROM events",
    "UPDATE events SET data = '{}'",
    "DELETE FROM events",
    "TRUNCATE events",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "ALTER TABLE events DISABLE TRIGGER events_are_immutable",
    "ALTER TABLE events DROP COLUMN chain",
    "ALTER TABLE events OWNER TO CURRENT_USER",
    "DROP TRIGGER events_are_immutable ON events",
    "CREATE TRIGGER mine BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse_rewriting()",
    "CREATE RULE mine AS ON INSERT TO events DO INSTEAD NOTHING",
    "DROP TABLE events CASCADE",
    "LOCK TABLE events IN ACCESS EXCLUSIVE MODE",
    "UPDATE log_head SET position = 0",
    "SELECT * FROM log_head FOR UPDATE",
    "INSERT INTO log_heads VALUES (1, 1, '', now(), '', NULL, '', 'mine', '')",
    "UPDATE log_heads SET digest = ''",
    "DELETE FROM log_heads",
    "TRUNCATE log_heads",
    "ALTER TABLE log_heads DISABLE TRIGGER ALL",
    "DELETE FROM blobs",
    "INSERT INTO inflight SELECT * FROM inflight",
    "UPDATE inflight SET hold_nano_usd = 0",
    "DELETE FROM inflight",
    "UPDATE meters SET requests_tat = 0",
    "TRUNCATE meters",
    "INSERT INTO projects (project_id, name, created_at) VALUES ('prj_mine', 'mine', now())",
    "UPDATE projects SET daily_budget_nano_usd = 1000000000000",
    "UPDATE api_keys SET daily_budget_nano_usd = NULL, revoked_at = NULL",
    "INSERT INTO price_overrides VALUES ('openai', 'gpt-4o', now(), '{}')",
    "INSERT INTO routes VALUES ('installation', 'gpt-4o', '{}', now())",
    "INSERT INTO providers VALUES ('installation', 'mine', 'openai', 'http://mine', NULL, '', now())",
    "DELETE FROM provider_keys",
    "UPDATE project_secrets SET sealed = ''",
    "INSERT INTO dashboard_sessions VALUES ('', 'mine', NULL, NULL, '', '', now(), now() + interval '1 year')",
    "UPDATE dashboard_sessions SET expires_at = now() + interval '1 year'",
    "DELETE FROM dashboard_sessions",
    "DELETE FROM budget_balances",
    "TRUNCATE budget_balances",
    "ALTER TABLE budget_balances ADD COLUMN mine text",
    "CREATE TABLE mine (x text)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION epoch_ns(p_at timestamptz) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",
    "ALTER FUNCTION settle SECURITY INVOKER",
    "CREATE SCHEMA mine",
    "DROP EXTENSION plpgsql CASCADE",
    "CREATE ROLE mine SUPERUSER",
    f"SET ROLE {OWNER}",
    "SET SESSION AUTHORIZATION postgres",
    "SET session_replication_role = replica",
    "COPY projects FROM PROGRAM 'env'",
    "COPY projects TO '/tmp/mine'",
    "COPY events TO PROGRAM 'cat'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_reload_conf()",
    "UPDATE alembic_version SET version_num = '0001'",
)
"""What none of the processes may do, neither one of them nor all of them together."""
NOT_BY_API_AND_WORKER = (
    "INSERT INTO budget_balances SELECT 'key', 'k', 'day', now()::date, 'p', -5, 0, 0",
    "UPDATE budget_balances SET spent_nano_usd = 0",
    "UPDATE usage_daily SET cost_nano_usd = 0",
    "DELETE FROM cache_entries",
    "UPDATE projection_checkpoints SET position = 0",
    "DELETE FROM quarantined_projects",
    "SELECT settle('{}', '{}', '{}', '{}')",
    "SELECT record_head(1, 1, '', now(), '', NULL, '', 'mine', '')",
    "SELECT remove_expired_blobs(1000)",
    "SELECT lock_meters('{key}', '{k}', '{true}')",
)


@pytest.fixture
async def written(ledger: RealLedger) -> RealLedger:
    """Return a ledger with a row in the tables that are attacked."""
    project = await ledger.new_project()
    key = await ledger.new_key(project, daily_budget_nano_usd=100)
    await ledger.admission.admit(ask(attempt(project, key), hold=5))
    return ledger


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[dict[str, asyncpg.Connection]]:
    """Return a connection as each role."""
    roles = (*ROLES.values(), EVERY_PROCESS)
    opened = {role: await asyncpg.connect(as_role(database_url, role)) for role in roles}
    yield opened
    for connection in opened.values():
        await connection.close()


async def refusal(connection: asyncpg.Connection, statement: str) -> asyncpg.PostgresError | None:
    """Run a statement and return its error. If it passes, it is undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as error:
        return error
    finally:
        await transaction.rollback()
    return None


async def everything(owner: asyncpg.Pool) -> dict[str, list[str]]:
    tables = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    return {
        table: [row[0] for row in await owner.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")] for (table,) in tables
    }


@pytest.mark.parametrize("role", [*ROLES.values(), EVERY_PROCESS])
async def test_no_process_writes_past_its_functions(
    written: RealLedger, connections: dict[str, asyncpg.Connection], role: str
) -> None:
    before = await everything(written.owner)
    statements = PASSED_BY if role in (ROLES["projector"], EVERY_PROCESS) else PASSED_BY + NOT_BY_API_AND_WORKER
    refused = {one: await refusal(connections[role], one) for one in statements}
    assert [one for one, error in refused.items() if error is None] == []
    wrong = {one: error for one, error in refused.items() if not isinstance(error, asyncpg.InsufficientPrivilegeError)}
    assert wrong == {}
    assert await everything(written.owner) == before


async def test_each_process_reads_only_the_secrets_that_it_needs(connections: dict[str, asyncpg.Connection]) -> None:
    api, worker, projector = (connections[ROLES[process]] for process in ("api", "worker", "projector"))
    assert await refusal(api, "SELECT project_id, provider, hint FROM provider_keys") is None
    assert await refusal(worker, "SELECT sealed FROM provider_keys") is None
    assert await refusal(projector, "SELECT settings FROM api_keys") is None
    for connection, statement in (
        (api, "SELECT sealed FROM provider_keys"),
        (projector, "SELECT hint FROM provider_keys"),
        (projector, "SELECT sealed FROM project_secrets"),
    ):
        assert isinstance(await refusal(connection, statement), asyncpg.InsufficientPrivilegeError), statement


async def test_processes_call_only_their_own_functions(ledger: RealLedger) -> None:
    functions = await ledger.owner.fetch(
        "SELECT oid, proname, prosecdef, proconfig FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )
    assert set(FUNCTIONS) <= {row["proname"] for row in functions}
    for row in functions:
        entry = FUNCTIONS.get(row["proname"], frozenset())
        assert row["prosecdef"] == bool(entry), row["proname"]
        assert row["proconfig"] == (["search_path=public, pg_temp"] if entry else None), row["proname"]
        for process, role in ROLES.items():
            may = await ledger.owner.fetchval("SELECT has_function_privilege($1, $2::oid, 'EXECUTE')", role, row["oid"])
            assert may == (process in entry), (role, row["proname"])


async def test_what_the_projector_writes_is_what_it_folds(ledger: RealLedger) -> None:
    """A new table is read by every process and written by none, until it is named."""
    rows = await ledger.owner.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    tables = {row["relname"] for row in rows}
    assert set(PROJECTOR_TABLES) | set(SECRET_TABLES) <= tables
    for table in tables:
        for process, role in ROLES.items():
            query = (
                "SELECT has_table_privilege($1, $2, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER, MAINTAIN')"
            )
            writes = await ledger.owner.fetchval(query, role, table)
            assert writes == (process == "projector" and table in PROJECTOR_TABLES), (table, role)
            reads = await ledger.owner.fetchval("SELECT has_any_column_privilege($1, $2, 'SELECT')", role, table)
            assert reads == (table not in SECRET_TABLES or process in SECRET_TABLES[table]), (table, role)


async def test_the_processes_do_their_work_each_under_its_own_role(database_url: str) -> None:
    ledgers: dict[Process, RealLedger] = {
        process: await RealLedger.open(as_role(database_url, role)) for process, role in ROLES.items()
    }
    api, worker, projector = (ledgers[process] for process in ("api", "worker", "projector"))
    project = await api.new_project()
    key = await api.new_key(project, daily_budget_nano_usd=100)
    made = attempt(project, key)
    assert (await api.admission.admit(ask(made, hold=60))).outcome == "admitted"
    claim = await worker.claims.claim(made.identity.request_id, 1)
    assert claim is not None
    await worker.append(made, 0, cost(made, 50, hold=60, day=claim.budget_day))
    await projector.fold()
    assert (await api.balance(key), await api.held(key)) == ((50, 0), 0)
    other = attempt(project, key)
    await api.admission.admit(ask(other, hold=10))
    assert await api.admission.drop([other.identity.request_id])
    for one in ledgers.values():
        await one.close()


async def test_a_table_of_the_callers_own_is_not_taken_for_the_log(
    written: RealLedger, connections: dict[str, asyncpg.Connection]
) -> None:
    head = await written.log.head()
    attacker = connections[ROLES["api"]]
    await attacker.execute("CREATE TEMPORARY TABLE events (LIKE public.events)")
    await attacker.execute(
        "CREATE TEMPORARY TABLE log_head AS SELECT true AS one, 0::bigint AS position, ''::bytea AS digest"
    )
    await attacker.execute("SET search_path = pg_temp, public")
    positions = await attacker.fetchval(
        "SELECT positions FROM append_batch('{1}', '{s}', '{1}', '{ProjectCreated}', '{p}', ARRAY[now()], "
        "ARRAY['{\"name\":\"x\"}'], ARRAY[sha256('x')], '{}', '{}', '{}', '{}', '{}')"
    )
    assert positions == [head + 1]
    assert await written.log.head() == head + 1
    assert await attacker.fetchval("SELECT count(*) FROM pg_temp.events") == 0


async def test_a_key_is_what_the_log_says_however_often_its_stream_is_folded(
    written: RealLedger, connections: dict[str, asyncpg.Connection]
) -> None:
    project = await written.new_project()
    key = await written.new_key(project, daily_budget_nano_usd=100)
    await written.change_key(project, key, daily_budget_nano_usd=5)
    before = await everything(written.owner)
    streams = [row[0] for row in await written.owner.fetch("SELECT DISTINCT stream FROM events")]
    for function in ("fold_projects", "fold_keys", "fold_prices", "fold_providers", "fold_routes"):
        await connections[ROLES["api"]].execute(f"SELECT {function}($1, '')", [*streams, "key-made-up"])
    assert await everything(written.owner) == before


async def test_an_event_in_anothers_stream_changes_nothing(ledger: RealLedger) -> None:
    """Whoever can append cannot make a second owner of a key, nor a project under another's name."""
    project = await ledger.new_project()
    key = await ledger.new_key(project, daily_budget_nano_usd=5)
    forged = ApiKeyIssued(key_id=key, secret_hash="00", hint="", settings=KeySettings(name="forged"))
    await ledger.log.append(
        Commit(stream=key_stream(key), expected_version=1, project_id="prj_thief", at=START, events=(forged,))
    )
    await ledger.log.append(
        Commit(stream="key-other", expected_version=0, project_id="prj_thief", at=START, events=(forged,))
    )
    mine = ProjectCreated(name="mine")
    await ledger.log.append(Commit(stream="s", expected_version=0, project_id=project, at=START, events=(mine,)))
    streams = [key_stream(key), "key-other", "s"]
    for function in ("fold_keys", "fold_projects"):
        await ledger.pool.execute(f"SELECT {function}($1, '')", streams)
    row = await ledger.pool.fetchrow(
        "SELECT project_id, encode(secret_hash, 'hex') AS hash FROM api_keys WHERE key_id = $1", key
    )
    assert (row["project_id"], row["hash"] == "00") == (project, False)
    assert await ledger.pool.fetchval("SELECT name FROM projects WHERE project_id = $1", project) == "tests"


@pytest.mark.parametrize("position", [1_000, -1_000])
async def test_an_event_that_was_never_appended_is_folded_into_no_table(ledger: RealLedger, position: int) -> None:
    """Neither at the next change of its stream nor at a rebuild."""
    project = await ledger.new_project()
    keys = [await ledger.new_key(project, daily_budget_nano_usd=5) for _ in range(2)]
    read = "SELECT daily_budget_nano_usd, version, revoked_at FROM api_keys WHERE key_id = ANY ($1) ORDER BY 1"
    names = "SELECT count(*) FROM projects WHERE name = 'planted'"
    planted = (
        (key_stream(keys[0]), 3, "ApiKeyChanged", '{"settings":{"name":"planted","daily_budget_nano_usd":900}}'),
        (key_stream(keys[1]), 2, "ApiKeyRevoked", "{}"),
        (f"project-{project}", 2, "ProjectSettingsChanged", '{"name":"planted"}'),
        ("project-prj_planted", 1, "ProjectCreated", '{"name":"planted"}'),
    )
    for number, (stream, version, kind, data) in enumerate(planted):
        await ledger.owner.execute(
            "INSERT INTO events (position, stream, version, type, project_id, at, data, digest) "
            "VALUES ($1, $2, $3, $4, $5, now(), $6::text::json, sha256(''))",
            position + number,
            stream,
            version,
            kind,
            "prj_planted" if "planted" in stream else project,
            data,
        )
    await ledger.change_key(project, keys[0], daily_budget_nano_usd=7)
    expected = [(5, 1, None), (7, 2, None)]
    assert [tuple(row) for row in await ledger.pool.fetch(read, keys)] == expected
    await ledger.pool.execute("SELECT fold_projects($1, '')", [f"project-{project}", "project-prj_planted"])
    await ledger.pool.execute("SELECT fold_keys($1, '')", [key_stream(key) for key in keys])
    await rebuild(ledger.owner, ledger.log, EVERY["keys"])
    assert [tuple(row) for row in await ledger.pool.fetch(read, keys)] == expected
    assert await ledger.pool.fetchval(names) == 0


async def test_a_key_that_names_no_rate_has_the_default_one(ledger: RealLedger) -> None:
    project = await ledger.new_project()
    keys = {rate: await ledger.new_key(project, rate_limit=rate) for rate in (DEFAULT_RATE_LIMIT_PER_MINUTE, None, 7)}
    for rate, key in keys.items():
        assert await ledger.pool.fetchval("SELECT rate_limit FROM api_keys WHERE key_id = $1", key) == rate


@pytest.mark.parametrize("name", ["budgets", "keys", "cache"])
async def test_a_rebuilt_table_keeps_its_owner_and_its_grants(written: RealLedger, name: str) -> None:
    await written.fold()
    query = (
        "SELECT relname, relowner, grantee, privilege_type FROM pg_class CROSS JOIN aclexplode(relacl) "
        "WHERE relname = ANY ($1) ORDER BY 1, 2, 3, 4"
    )
    before = await written.owner.fetch(query, list(EVERY[name].tables))
    await rebuild(written.owner, written.log, EVERY[name])
    assert await written.owner.fetch(query, list(EVERY[name].tables)) == before
    await written.fold()


async def test_one_role_for_everything_works_and_is_told(database_url: str) -> None:
    owner_url = as_role(database_url, OWNER)
    problems = await asyncio.to_thread(migrate, owner_url)
    assert problems[:2] == [f"the role {OWNER} owns the tables", f"the role {OWNER} owns the database"]
    assert f"the role {OWNER} may write the log past its functions" in problems
    ledger = await RealLedger.open(owner_url)
    project = await ledger.new_project()
    assert (
        await ledger.admission.admit(ask(attempt(project, await ledger.new_key(project)), hold=5))
    ).outcome == "admitted"
    await ledger.fold()
    await ledger.close()


async def test_one_application_role_gets_what_all_processes_need(database_url: str) -> None:
    """The second migration takes from the other roles nothing, and gives this one the rights of all three."""
    assert await asyncio.to_thread(migrate, as_role(database_url, OWNER), dict.fromkeys(ROLES, EVERY_PROCESS)) == []
    ledger = await RealLedger.open(database_url)
    project = await ledger.new_project()
    key = await ledger.new_key(project, daily_budget_nano_usd=100)
    await ledger.admission.admit(ask(attempt(project, key), hold=60))
    await ledger.fold()
    assert isinstance(
        await refusal(await ledger.pool.acquire(), "UPDATE projects SET daily_budget_nano_usd = 1"),
        asyncpg.InsufficientPrivilegeError,
    )
    await ledger.close()


@pytest.mark.parametrize("default_role", [None, OWNER, ROLES["api"]])
async def test_a_migration_that_is_not_told_of_the_roles_leaves_each_what_it_has(
    ledger: RealLedger, database_url: str, default_role: str | None
) -> None:
    """Functions that are dropped and made anew, too, and new ones and new tables: no role is given another's."""
    before = await _grants(ledger)
    await ledger.owner.execute("DROP FUNCTION record_head")  # one that the next release brings
    await ledger.owner.execute("REVOKE SELECT ON log_heads FROM gateway_api, gateway_worker, gateway_projector")
    await asyncio.to_thread(migrate, as_role(database_url, OWNER), None, default_role)
    assert await _grants(ledger) == before


async def test_a_role_that_is_told_of_gets_its_processes_beside_those_that_have_them(
    ledger: RealLedger, database_url: str
) -> None:
    before = await _grants(ledger)
    await asyncio.to_thread(migrate, as_role(database_url, OWNER), {"api": ROLES["worker"]}, ROLES["api"])
    after = await _grants(ledger)
    assert {one for one in after if one[2] != ROLES["worker"]} == {one for one in before if one[2] != ROLES["worker"]}
    assert {(kind, name) for kind, name, role, _ in after if role == ROLES["worker"]} >= {
        ("function", "admit"),
        ("function", "claim"),
    }


async def _grants(ledger: RealLedger) -> set[tuple[str, str, str, str]]:
    """Every grant on a function or table, as (kind, name, role, privilege)."""
    rows = await ledger.owner.fetch(
        "SELECT 'function', p.proname::text, r.rolname::text, g.privilege_type FROM pg_proc p, aclexplode(p.proacl) g, "
        "pg_roles r WHERE r.oid = g.grantee AND p.pronamespace = 'public'::regnamespace UNION ALL "
        "SELECT 'table', c.relname::text, r.rolname::text, g.privilege_type FROM pg_class c, aclexplode(c.relacl) g, "
        "pg_roles r WHERE r.oid = g.grantee AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'"
    )
    return {(row[0], row[1], row[2], row[3]) for row in rows}


def test_a_server_from_before_the_roles_gets_them_at_its_next_start(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", durable=False)
    heard: list[tuple[int, int]] = []
    try:
        migrate(server.start(), progress=lambda *seen: heard.append(seen))  # as its superuser, as before the roles
        assert heard[-1][0] == heard[-1][1] > 1
        heard.clear()
        server.stop()
        server.start()
        assert migrate(server.url_as(OWNER), ROLES, progress=lambda *seen: heard.append(seen)) == []
        assert heard == [], "no revision is due"
        assert asyncio.run(_owners(server.url)) == {OWNER}
    finally:
        server.stop()


async def _owners(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "UNION SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        )
    finally:
        await connection.close()
    return {row[0] for row in rows}
