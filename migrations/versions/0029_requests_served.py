"""The model that served a request, and requests whose first event came long after their id."""

from migrations.revision import run_sql

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0029_requests_served.sql")
