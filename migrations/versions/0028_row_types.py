"""Types of the rows that the projector writes."""

from migrations.revision import run_sql

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0028_row_types.sql")
