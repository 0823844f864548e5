"""Runs the SQL file of a revision. Does not know which revisions there are."""

from pathlib import Path

from alembic import op

_SQL = Path(__file__).parent / "sql"


def run_sql(name: str) -> None:
    """Run every statement of `migrations/sql/<name>` in the migration's transaction, as one simple query."""
    op.get_bind().exec_driver_sql((_SQL / name).read_text(encoding="utf-8"))
