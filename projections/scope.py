"""Whose requests a report counts. Made from who asks, never from what is asked alone."""

from msgspec import Struct


class Scope(Struct, frozen=True, kw_only=True):
    """Everything, one project, or one key."""

    project_id: str | None = None
    """None: all projects."""
    key_id: str | None = None
    """None: all keys of the project, or of all projects."""
