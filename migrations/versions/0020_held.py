"""Held amounts as counters."""

from migrations.revision import run_sql

revision = "0020"
down_revision = "0015"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0020_held.sql")
