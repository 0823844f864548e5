"""Runs SQL files: those of the revisions, and the functions. Does not know which there are."""

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
    """Replace every function by today's: they have no history of their own."""
    run_file(connection, _DROPS)
    for file in sorted(_FUNCTIONS.glob("*.sql")):
        run_file(connection, file)


def run_file(connection: Connection, file: Path) -> None:
    """Run every statement of a file, straight through the driver: SQLAlchemy prepares, which allows one only."""
    cursor = connection.connection.cursor()
    cursor.execute(file.read_text(encoding="utf-8"))
    cursor.close()
