"""What is known of attempts whose worker dies, and the sweep of idempotency keys."""

from migrations.revision import run_sql

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0022_settled.sql")
