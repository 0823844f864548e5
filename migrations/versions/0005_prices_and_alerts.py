"""The operator's prices, and budget alerts."""

from migrations.revision import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the SQL beside this revision."""
    run_sql("0005_prices_and_alerts.sql")
