"""Where requests come from: session, agent and client."""

from migrations.revision import run_sql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0012_origins.sql")
