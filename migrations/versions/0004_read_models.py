"""The read models."""

from migrations.revision import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0004_read_models.sql")
