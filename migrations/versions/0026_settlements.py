"""What of attempts is unsettled, whose providers can be asked; and what clients say of requests in flight."""

from migrations.revision import run_sql

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0026_settlements.sql")
