"""Runs SQL files: those of the revisions, and those of the functions."""

from pathlib import Path

from alembic import op
from sqlalchemy import Connection

_SQL = Path(__file__).parent / "sql"
_FUNCTIONS = Path(__file__).parent / "functions"
_DROPS = Path(__file__).parent / "drop_functions.sql"
_IS_WHOLE = (
    "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "WHERE c.relname = %s AND c.relnamespace = current_schema()::regnamespace"
)


def run_sql(name: str) -> None:
    """Run every statement of `migrations/sql/<name>` in the migration's transaction."""
    run_file(op.get_bind(), _SQL / name)


def build_index(name: str, on: str) -> None:
    """Build an index of a large table while others write to it, as the first step of a revision.

    That cannot be undone with the revision's transaction, so this runs before it. If it was cut off, the next migration
    begins it anew: an index that is not whole is of no use, and stands in the way. `name` and `on` (table and columns)
    are constants.
    """
    with op.get_context().autocommit_block():
        cursor = op.get_bind().connection.cursor()
        cursor.execute(_IS_WHOLE, [name])
        if (found := cursor.fetchone()) is not None and not found[0]:
            cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
        cursor.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}")
        cursor.close()


def run_functions(connection: Connection) -> None:
    """Replace every SQL function by the current one. Functions have no revisions."""
    run_file(connection, _DROPS)
    for file in sorted(_FUNCTIONS.glob("*.sql")):
        run_file(connection, file)


def run_file(connection: Connection, file: Path) -> None:
    """Run every statement of a file through the driver's cursor: SQLAlchemy would allow only one statement."""
    cursor = connection.connection.cursor()
    cursor.execute(file.read_text(encoding="utf-8"))
    cursor.close()
