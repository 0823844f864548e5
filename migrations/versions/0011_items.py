"""Items of responses: found by their ids."""

from migrations.revision import run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0011_items.sql")
