"""Types of the rows that are admitted and appended."""

from migrations.revision import run_sql

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0030_hot_row_types.sql")
