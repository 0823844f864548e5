"""The pages that the head of every page links to."""

from collections.abc import Sequence

from msgspec import Struct

from api.dashboard.viewer import Viewer, ViewerRole

EVERYBODY: tuple[ViewerRole, ...] = ("operator", "admin", "member")
ADMINS: tuple[ViewerRole, ...] = ("operator", "admin")


class NavigationEntry(Struct, frozen=True, kw_only=True):
    """A link to a page."""

    path: str
    label: str
    roles: tuple[ViewerRole, ...] = EVERYBODY
    """The roles that see the entry."""


def shown_to(viewer: Viewer | None, entries: Sequence[NavigationEntry]) -> list[NavigationEntry]:
    """Return the entries for a viewer; empty before signing in."""
    return [one for one in entries if viewer is not None and viewer.role in one.roles]
