"""Usage by what callers say of their requests."""

from migrations.revision import run_sql

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0021_usage_attributes.sql")
