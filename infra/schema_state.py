"""What a database was last migrated to, so that a start that has nothing to migrate need not import what migrates."""

import hashlib

import asyncpg
import msgspec

from infra.database import CONNECT_TIMEOUT_S, MIGRATIONS, newest_revision
from migrations.roles import Roles

SCHEMA_STATE = "COMMENT ON TABLE alembic_version IS '{}'"
"""The statement that writes down a state. Who owns the tables may run it."""
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
    """Return whether the last migration of a database was this code's, with the same roles. False if nobody can say."""
    try:
        connection = await asyncpg.connect(owner_url, timeout=CONNECT_TIMEOUT_S)
    except (OSError, asyncpg.PostgresError):
        return False
    try:
        rows = await connection.fetch(_READ)
    except asyncpg.PostgresError:
        return False
    finally:
        await connection.close()
    return [tuple(row) for row in rows] == [(newest_revision(), schema_state(roles, default_role))]
