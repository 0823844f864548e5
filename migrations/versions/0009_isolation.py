"""Isolation of projects: quarantine, versions of keys, and the installation's budget."""

from migrations.revision import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0009_isolation.sql")
