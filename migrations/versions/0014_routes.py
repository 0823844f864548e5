"""Routes, and several credentials of one provider."""

from migrations.revision import run_sql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0014_routes.sql")
