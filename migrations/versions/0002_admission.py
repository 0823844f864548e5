"""Attempts in flight, and the meters of rate limits."""

from migrations.revision import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0002_admission.sql")
