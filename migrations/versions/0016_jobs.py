"""Asynchronous jobs."""

from migrations.revision import run_sql

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0016_jobs.sql")
