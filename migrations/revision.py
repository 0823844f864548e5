"""Runs the SQL file of a revision. Does not know which revisions there are."""

from pathlib import Path

from alembic import op

_SQL = Path(__file__).parent / "sql"


def run_sql(name: str) -> None:
    """Run every statement of `migrations/sql/<name>` in the migration's transaction.

    Straight through the driver: SQLAlchemy would prepare the text, which allows one statement only.
    """
    cursor = op.get_bind().connection.cursor()
    cursor.execute((_SQL / name).read_text(encoding="utf-8"))
    cursor.close()
