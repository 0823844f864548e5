"""Asynchronous jobs."""

from migrations.revision import run_sql

revision = "0018"
down_revision = "0020"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0018_jobs.sql")
