"""What the audit of a log needs: an index of its rare events, and the verifications that were asked for."""

from migrations.revision import run_sql

revision = "0024"
down_revision = "0022"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0024_audit.sql")
