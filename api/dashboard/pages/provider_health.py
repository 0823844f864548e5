"""Shows how providers answer, on a page and in the list of providers."""

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.response import Template

from api.dashboard.csv_files import CsvTable
from api.dashboard.forms import filters_of
from api.dashboard.owners import OwnerPage, requested_owner
from api.dashboard.rendering import page
from api.dashboard.viewer import Viewer
from api.native.provider_health import ProviderHealthOut, health_out
from api.overview import Away, providers_away, targets_away
from api.requests import HttpRequest
from api.services import Services
from domain.events import INSTALLATION
from projections.reports.labels import labels_of

PATH = "/providers/health"
_SAVED_HEALTH = CsvTable[ProviderHealthOut](
    "health.csv",
    {
        "provider": lambda one: one.provider,
        "model": lambda one: one.model,
        "whose": lambda one: one.project_id or one.scope,
        "credential": lambda one: one.credential,
        "last calls": lambda one: one.last_calls,
        "circuit": lambda one: one.state,
        "reason": lambda one: one.reason,
        "since": lambda one: one.since,
        "calls": lambda one: one.calls,
        "failures": lambda one: one.failures,
        "p50 ms": lambda one: one.latency_ms.p50,
        "p95 ms": lambda one: one.latency_ms.p95,
        "last error": lambda one: one.last_errors[0].code if one.last_errors else None,
        "last error at": lambda one: one.last_errors[0].at if one.last_errors else None,
    },
)


@get(PATH)
async def show_health(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Show how providers answer, on a page or for the piece of another one. It waits for what the workers tell."""
    owner = await requested_owner(services, viewer, filters_of(request, OwnerPage).owner)
    health = await _health(services, viewer, owner)
    return page(
        request,
        "provider_health.html",
        title="How providers answer",
        owner=owner,
        health=health,
        names=await labels_of(services.pool, project_ids=(one.project_id for one in health if one.project_id)),
        away=away_for(services, viewer, owner),
    )


@get(f"{PATH}.csv")
async def save_health(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The same as CSV."""
    owner = await requested_owner(services, viewer, filters_of(request, OwnerPage).owner)
    return _SAVED_HEALTH.download(await _health(services, viewer, owner))


HANDLERS = (show_health, save_health)


async def _health(services: Services, viewer: Viewer, owner: str) -> list[ProviderHealthOut]:
    """Return the state of an owner's circuits; of everybody's, if the operator asks for the installation's."""
    everybodys = viewer.role == "operator" and owner == INSTALLATION
    return [health_out(one) for one in await services.provider_health.of(None if everybodys else owner)]


def away_for(services: Services, viewer: Viewer, owner: str) -> list[Away]:
    """The targets of the owner and of the installation that are not called at the moment, or fail. Which models others
    ask for under the installation's credentials is told to the operator alone.
    """
    health = services.provider_health
    own = targets_away(health, owner)
    if owner == INSTALLATION:
        return own
    return own + (targets_away(health) if viewer.role == "operator" else providers_away(health))
