"""The event log."""

from migrations.revision import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0001_log.sql")
