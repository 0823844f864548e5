"""Requests that a budget refused, by day, key and window."""

from migrations.revision import run_sql

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0025_refusals.sql")
