"""Held amounts as counters."""

from migrations.revision import run_sql

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0015_held.sql")
