"""Runs SQL files: those of the revisions, and those of the functions."""

from pathlib import Path

from alembic import op
from sqlalchemy import Connection

_SQL = Path(__file__).parent / "sql"
_FUNCTIONS = Path(__file__).parent / "functions"
_DROPS = Path(__file__).parent / "drop_functions.sql"


def run_sql(name: str) -> None:
    """Run every statement of `migrations/sql/<name>` in the migration's transaction."""
    run_file(op.get_bind(), _SQL / name)


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
