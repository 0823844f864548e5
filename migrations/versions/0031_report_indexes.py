"""Indexes by key for the reports of all projects: they read the rows of some keys."""

from migrations.revision import build_index

revision = "0031"
down_revision = "0030"

_INDEXES = {
    "usage_months_by_key": "usage_months (key_id, starts_at) WHERE key_id <> ''",
    "usage_durations_by_key": "usage_durations (key_id, period, starts_at) WHERE key_id <> ''",
}


def upgrade() -> None:
    """Build them while the projector folds. They are as `usage_rollups_by_key` is."""
    for name, on in _INDEXES.items():
        build_index(name, on)
