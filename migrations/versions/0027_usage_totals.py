"""Usage summed up over all keys and models, and of a key by month."""

from migrations.revision import run_sql

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0027_usage_totals.sql")
