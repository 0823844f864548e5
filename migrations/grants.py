"""Grants the roles of the processes what `migrations/roles.py` says, and takes from them what it does not say."""

from collections.abc import Sequence

from psycopg import Cursor, sql
from sqlalchemy import Connection

from migrations.roles import FUNCTIONS, PROCESSES, PROJECTOR_TABLES, SECRET_TABLES, Process, Roles

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
        SELECT 'TABLE ' || c.oid::regclass FROM pg_class c
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v')
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


def grant(connection: Connection, roles: Roles | None) -> list[str]:
    """Grant the roles what their processes need, and nothing else, in the connection's transaction.

    The connection's own role keeps what it has, if it is one of them. Without `roles` it is that of every process.
    Returns what is wrong with the roles, in words.

    Raises:
        psycopg.Error: a role does not exist, or a former owner's tables cannot be taken over.

    """
    cursor: Cursor[tuple[str, ...]] = connection.connection.cursor()  # type: ignore[assignment]  # SQLAlchemy's is psycopg's
    with cursor:
        owner, schema = cursor.execute("SELECT current_user::text, current_schema()::text").fetchall()[0]
        roles = roles or dict.fromkeys(PROCESSES, owner)
        names = sorted(set(roles.values()))
        others = [name for name in names if name != owner]
        cursor.execute(take_over(owner, others))
        _grant_functions(cursor, schema, {process: role for process, role in roles.items() if role != owner})
        for role in others:
            _replace_grants_on_tables(cursor, schema, role, [one for one in PROCESSES if roles[one] == role])
        return [
            f"the role {role} {problem}"
            for role in names
            for (problem,) in cursor.execute("SELECT role_problems(%s)", [role]).fetchall()
        ]


def _grant_functions(cursor: Cursor[tuple[str, ...]], schema: str, roles: Roles) -> None:
    """Take every function from the public and from the roles. Give each entry to those that call it, as its owner.

    `pg_temp` stands last in the path, or a caller could put a table of his own in the place of ours.
    """
    grantees = [sql.SQL("PUBLIC"), *(sql.Identifier(role) for role in sorted(set(roles.values())))]
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
        for role in sorted({roles[process] for process in FUNCTIONS[name] if process in roles}):
            cursor.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(function, sql.Identifier(role)))


def _replace_grants_on_tables(
    cursor: Cursor[tuple[str, ...]], schema: str, role: str, processes: Sequence[Process]
) -> None:
    grantee = sql.Identifier(role)
    cursor.execute(sql.SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC, {}").format(sql.Identifier(schema), grantee))
    cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), grantee))
    for (name,) in cursor.execute(_OWN_TABLES).fetchall():
        table = sql.Identifier(name)
        cursor.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC, {}").format(table, grantee))
        for privilege in _privileges(name, processes):
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(privilege, table, grantee))


def _privileges(table: str, processes: Sequence[Process]) -> list[sql.Composable]:
    """Return the privileges that processes have on a table."""
    granted: list[sql.Composable] = []
    if table not in SECRET_TABLES:
        granted.append(sql.SQL("SELECT"))
    elif columns := sorted({one for process in processes for one in SECRET_TABLES[table].get(process, ())}):
        granted.append(sql.SQL("SELECT ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))))
    if "projector" in processes:
        granted.extend(map(sql.SQL, PROJECTOR_TABLES.get(table, ())))
    return granted
