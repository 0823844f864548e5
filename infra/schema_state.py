"""What a database was last migrated to, so that a start that has nothing to migrate need not import what migrates."""

import hashlib

import asyncpg
import msgspec

from infra.database import CONNECT_TIMEOUT_S, MIGRATIONS, newest_revision
from migrations.roles import FUNCTIONS, Roles

SCHEMA_STATE = "COMMENT ON TABLE alembic_version IS '{}'"
"""The statement that writes down a state. Who owns the tables may run it."""
_MISSING = """
    SELECT count(*) FROM unnest($1::text[], $2::text[]) AS needed (role, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_proc p WHERE p.proname = needed.name AND p.pronamespace = current_schema()::regnamespace
          AND has_function_privilege(needed.role, p.oid, 'EXECUTE')
    )
"""
"""The number of functions that a role needs and may not call: a copy of a database may lack its grants."""
_READ = "SELECT version_num, obj_description('alembic_version'::regclass) FROM alembic_version"


def schema_state(roles: Roles | None, default_role: str | None) -> str:
    """Return the digest of all that decides what a migration makes: this code's files, and the roles that are told.

    They are hexadecimal digits.
    """
    digest = hashlib.sha256(msgspec.json.encode([roles, default_role], order="sorted"))
    for file in sorted(file for ending in ("py", "sql") for file in MIGRATIONS.rglob(f"*.{ending}")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(MIGRATIONS)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


async def is_migrated(owner_url: str, roles: Roles | None, default_role: str | None) -> bool:
    """Return whether the last migration of a database was this code's, with the same roles, which may do as it granted.

    False if nobody can say.
    """
    needed = [
        (role, name)
        for name, processes in FUNCTIONS.items()
        for process in processes
        if (role := (roles or {}).get(process, default_role)) is not None
    ]
    try:
        connection = await asyncpg.connect(owner_url, timeout=CONNECT_TIMEOUT_S)
    except (OSError, asyncpg.PostgresError):
        return False
    try:
        rows = await connection.fetch(_READ)
        missing = await connection.fetchval(_MISSING, [role for role, _ in needed], [name for _, name in needed])
    except asyncpg.PostgresError:
        return False
    finally:
        await connection.close()
    return missing == 0 and [tuple(row) for row in rows] == [(newest_revision(), schema_state(roles, default_role))]
