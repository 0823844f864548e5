"""Who is signed in to the dashboard."""

from migrations.revision import run_sql

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0019_dashboard_sessions.sql")
