"""Grants the roles of the processes what `migrations/roles.py` says, and takes from them what it does not say."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from psycopg import Cursor, sql
from sqlalchemy import Connection

from migrations.roles import FUNCTIONS, PROCESSES, PROJECTOR_TABLES, SECRET_TABLES, Process, Roles

Shares: TypeAlias = Mapping[str, frozenset[Process]]
"""The processes whose functions and tables each PostgreSQL role has."""

_FUNCTION_OF_PROCESS: Mapping[Process, str] = {"api": "admit", "worker": "claim", "projector": "settle"}
"""A function of each process that no other one calls. It says whose share a role has: it is in every release."""
_GRANTEES = """
    SELECT DISTINCT r.rolname::text, p.proname::text FROM pg_proc p
    CROSS JOIN LATERAL aclexplode(p.proacl) AS g
    JOIN pg_roles r ON r.oid = g.grantee
    WHERE p.pronamespace = current_schema()::regnamespace AND p.proname = ANY (%s)
      AND g.privilege_type = 'EXECUTE' AND g.grantee <> p.proowner
"""
_OWN_FUNCTIONS = """
    SELECT p.proname, p.oid::regprocedure::text FROM pg_proc p
    WHERE p.pronamespace = current_schema()::regnamespace AND p.proowner = current_user::regrole AND p.prokind = 'f'
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
"""
_OWN_TABLES = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relowner = current_user::regrole
      AND c.relkind IN ('r', 'p', 'v')
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""
_TAKE_OVER = """
DO $take_over$
DECLARE
    v_object text;
BEGIN
    FOR v_object IN
        SELECT CASE c.relkind WHEN 'c' THEN 'TYPE ' ELSE 'TABLE ' END || c.oid::regclass FROM pg_class c
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'c')
              AND pg_get_userbyid(c.relowner) = ANY ({former})
              AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
        UNION ALL
        SELECT 'FUNCTION ' || p.oid::regprocedure FROM pg_proc p
            WHERE p.pronamespace = current_schema()::regnamespace AND p.prokind = 'f'
              AND pg_get_userbyid(p.proowner) = ANY ({former})
              AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('ALTER %s OWNER TO %I', v_object, {owner});
    END LOOP;
END $take_over$
"""


def take_over(owner: str, former: Sequence[str]) -> str:
    """Return the statement that gives `owner` every table and function of the schema that a role of `former` owns."""
    return sql.SQL(_TAKE_OVER).format(owner=sql.Literal(owner), former=sql.Literal(list(former))).as_string()


def shares_so_far(connection: Connection) -> Shares:
    """Return the roles that may call the functions of processes, with whose. The owner is not among them.

    Read it before functions are dropped: the grants of these go with them.
    """
    cursor: Cursor[tuple[str, str]] = connection.connection.cursor()  # type: ignore[assignment]  # SQLAlchemy's is psycopg's
    process_of = {name: process for process, name in _FUNCTION_OF_PROCESS.items()}
    found: dict[str, frozenset[Process]] = {}
    with cursor:
        for role, name in cursor.execute(_GRANTEES, [list(process_of)]).fetchall():
            found[role] = found.get(role, frozenset()) | {process_of[name]}
    return found


def shares(roles: Roles, default_role: str, former: Shares) -> Shares:
    """Return whose functions and tables each role is to have.

    `roles` is what the operator says of some processes, or of all. Those that are not named keep the roles that they
    have so far, if `default_role` has a share among these; else `default_role` is theirs. A role that nothing is said
    of keeps its share.
    """
    assigned: dict[str, frozenset[Process]] = {}
    for role, processes in former.items():
        is_named = role in roles.values()
        assigned[role] = frozenset(one for one in processes if not is_named or one not in roles)
    kept = frozenset().union(*former.values()) if default_role in former else frozenset()
    told = dict(roles) | {one: default_role for one in PROCESSES if one not in roles and one not in kept}
    for process, role in told.items():
        assigned[role] = assigned.get(role, frozenset()) | {process}
    return assigned


def grant(
    connection: Connection, roles: Roles | None, default_role: str | None = None, former: Shares | None = None
) -> list[str]:
    """Grant the roles what their processes need, and nothing else, in the connection's transaction.

    The connection's own role keeps what it has, if it is one of them. `default_role`: of the processes that are not in
    `roles`; None: the connection's own. `former`: from `shares_so_far`. Returns what is wrong with the roles, in words.

    Raises:
        psycopg.Error: a role does not exist, or a former owner's tables cannot be taken over.

    """
    cursor: Cursor[tuple[str, ...]] = connection.connection.cursor()  # type: ignore[assignment]  # SQLAlchemy's is psycopg's
    with cursor:
        owner, schema = cursor.execute("SELECT current_user::text, current_schema()::text").fetchall()[0]
        assigned = shares(roles or {}, default_role or owner, former or {})
        others = {role: processes for role, processes in sorted(assigned.items()) if role != owner}
        cursor.execute(take_over(owner, sorted({*(roles or {}).values(), default_role or owner} - {owner})))
        _grant_functions(cursor, schema, others)
        for role, processes in others.items():
            _replace_grants_on_tables(cursor, schema, role, processes)
        return [
            f"the role {role} {problem}"
            for role in sorted(assigned)
            for (problem,) in cursor.execute("SELECT role_problems(%s)", [role]).fetchall()
        ]


def _grant_functions(cursor: Cursor[tuple[str, ...]], schema: str, assigned: Shares) -> None:
    """Take every function from the public and from the roles. Give each entry to those that call it, as its owner.

    `pg_temp` stands last in the path, or a caller could put a table of his own in the place of ours.
    """
    grantees = [sql.SQL("PUBLIC"), *map(sql.Identifier, assigned)]
    for name, signature in cursor.execute(_OWN_FUNCTIONS).fetchall():
        function = sql.SQL(signature)  # written by the server, quoted
        cursor.execute(sql.SQL("REVOKE ALL ON FUNCTION {} FROM {}").format(function, sql.SQL(", ").join(grantees)))
        if name not in FUNCTIONS:
            continue
        cursor.execute(
            sql.SQL("ALTER FUNCTION {} SECURITY DEFINER SET search_path = {}, pg_temp").format(
                function, sql.Identifier(schema)
            )
        )
        for role, processes in assigned.items():
            if processes & FUNCTIONS[name]:
                cursor.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(function, sql.Identifier(role)))


def _replace_grants_on_tables(
    cursor: Cursor[tuple[str, ...]], schema: str, role: str, processes: frozenset[Process]
) -> None:
    grantee = sql.Identifier(role)
    cursor.execute(sql.SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC, {}").format(sql.Identifier(schema), grantee))
    cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), grantee))
    for (name,) in cursor.execute(_OWN_TABLES).fetchall():
        table = sql.Identifier(name)
        cursor.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC, {}").format(table, grantee))
        for privilege in _privileges(name, processes):
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(privilege, table, grantee))


def _privileges(table: str, processes: frozenset[Process]) -> list[sql.Composable]:
    """Return the privileges that processes have on a table."""
    granted: list[sql.Composable] = []
    if table not in SECRET_TABLES:
        granted.append(sql.SQL("SELECT"))
    elif columns := sorted({one for process in processes for one in SECRET_TABLES[table].get(process, ())}):
        granted.append(sql.SQL("SELECT ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))))
    if "projector" in processes:
        granted.extend(map(sql.SQL, PROJECTOR_TABLES.get(table, ())))
    return granted
