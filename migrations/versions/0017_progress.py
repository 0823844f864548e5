"""How far attempts are, as their workers report."""

from migrations.revision import run_sql

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0017_progress.sql")
