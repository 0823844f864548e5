"""Signed heads of the log."""

from migrations.revision import run_sql

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0013_heads.sql")
