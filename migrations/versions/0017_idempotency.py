"""Idempotency keys: what is in flight under them, and what is kept."""

from migrations.revision import run_sql

revision = "0017"
down_revision = "0019"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0017_idempotency.sql")
