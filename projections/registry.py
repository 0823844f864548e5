"""The table of projections: those that the projector folds, and those that are folded inline."""

from projections.alerts import Alerts
from projections.attributes import Attributes
from projections.budgets import Budgets
from projections.cache import Cache
from projections.idempotency import IdempotencyKeys
from projections.jobs import Jobs
from projections.keys import Keys
from projections.prices import Prices
from projections.projection import Projection
from projections.providers import Providers
from projections.refusals import Refusals
from projections.requests import Requests
from projections.rollups import Rollups
from projections.routes import Routes
from projections.settlements import Settlements
from projections.totals import Totals
from projections.usage import Usage

FOLDED: tuple[Projection, ...] = (
    Budgets(),
    Usage(),
    Rollups(),
    Totals(),
    Attributes(),
    Refusals(),
    Requests(),
    Cache(),
    IdempotencyKeys(),
    Alerts(),
    Jobs(),
    Settlements(),
)
"""Folded by the projector."""
INLINE: tuple[Projection, ...] = (Keys(), Prices(), Providers(), Routes())
"""Folded in the append of their events, so they are never behind the log."""
EVERY: dict[str, Projection] = {projection.name: projection for projection in (*FOLDED, *INLINE)}
