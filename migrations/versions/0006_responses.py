"""An index that finds the owner of a response."""

from migrations.revision import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0006_responses.sql")
