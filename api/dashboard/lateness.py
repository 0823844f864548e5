"""Tells on a page that its figures are behind the log. The page is shown at once all the same."""

from infra.database import Pool
from projections.freshness import MAX_WAIT_S, is_quarantined, oldest_unfolded_s
from projections.scope import Scope


async def lateness(pool: Pool, scope: Scope, *projections: str) -> str | None:
    """Return why the figures of these projections are not those of now; None if they are, but for a moment.

    Raises:
        Unavailable: the database is away.

    """
    if scope.project_id is not None and await is_quarantined(pool, scope.project_id):
        return (
            "An event of this project cannot be folded: its figures end before that event. "
            "An operator sees why with `gateway projections list`."
        )
    behind_s = await oldest_unfolded_s(pool, projections)
    if behind_s is None or behind_s < MAX_WAIT_S:
        return None
    return f"The figures are {behind_s:.0f} seconds behind the log: is the projector running?"
