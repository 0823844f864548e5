"""How far attempts are, as their workers report."""

from migrations.revision import run_sql

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0019_progress.sql")
