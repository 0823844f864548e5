"""A count of responses without a price."""

from migrations.revision import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0008_unpriced.sql")
