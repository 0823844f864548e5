"""Usage summed up by hour and over keys and projects, with durations and errors."""

from migrations.revision import run_sql

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0020_usage_rollups.sql")
