"""What the audit of a log needs: an index of its rare events, and the verifications that were asked for."""

from migrations.revision import build_index, run_sql

revision = "0024"
down_revision = "0022"


_EVENTS_BY_TYPE = "events (type, position) WHERE type NOT IN ('RequestCompleted', 'CostIncurred')"
"""Every request has events of the two types, and they are found without an index: this one costs a request nothing."""


def upgrade() -> None:
    """Build the index while requests are made, and run the SQL beside this revision."""
    build_index("events_by_type", _EVENTS_BY_TYPE)
    run_sql("0024_audit.sql")
