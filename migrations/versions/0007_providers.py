"""Providers by configuration."""

from migrations.revision import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0007_providers.sql")
