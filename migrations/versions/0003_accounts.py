"""Projects, API keys and provider keys."""

from migrations.revision import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0003_accounts.sql")
