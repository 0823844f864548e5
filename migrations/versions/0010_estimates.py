"""Marks of estimated tokens and of costs that are lower bounds."""

from migrations.revision import run_sql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0010_estimates.sql")
