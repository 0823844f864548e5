"""One request: the way it went, its charge line by line, and its events."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template
from msgspec import Struct

from api.dashboard.csv_files import CsvTable
from api.dashboard.pages.routes import address_of as address_of_route
from api.dashboard.rendering import page
from api.dashboard.viewer import Viewer
from api.native.routes import is_shown
from api.requests import HttpRequest
from api.services import Services
from api.stored_answers import request_with_events, stored_answer
from domain.events import RequestRejected, StoredEvent
from domain.failover import TargetFate
from projections.reports.charges import Charge, ChargeLine, charges_of
from projections.reports.labels import labels_of
from projections.reports.requests import RequestView
from projections.request_attempts import AttemptView, attempts_of, targets_of

PATH = "/requests/{request_id:str}"
FATES = {
    "answered": "answered",
    "failed": "failed",
    "skipped": "passed over",
    "dropped": "left out",
    "not_tried": "not tried",
}
"""The words of the page for the fate of a target. A CSV has the API's words."""
REASONS = {
    "unknown_model": "its model is unknown",
    "not_allowed": "the key may not use it",
    "refused": "it cannot serve such a request",
    "no_price": "its cost has no bound, and there is a budget",
    "no_credential": "there is no key for its provider",
    "budget": "the budget had no room for it",
    "circuit": "its provider was not called at that time",
}
"""Why. What is not here is the code of an error."""
MAX_SHOWN_ANSWER_BYTES = 64 * 1024
_SAVED_PLAN = CsvTable[TargetFate](
    "plan.csv",
    {
        "target": lambda one: one.model,
        "provider": lambda one: one.provider,
        "became": lambda one: one.outcome,
        "why": lambda one: one.reason,
        "message": lambda one: one.message,
    },
)
_SAVED_ATTEMPTS = CsvTable[AttemptView](
    "attempts.csv",
    {
        "attempt": lambda one: one.attempt,
        "model": lambda one: one.upstream_model,
        "provider": lambda one: one.provider,
        "credential": lambda one: one.credential,
        "outcome": lambda one: one.outcome,
        "ended": lambda one: one.ended_at,
        "took ms": lambda one: one.took_ms,
        "first token ms": lambda one: one.first_token_ms,
        "held USD": lambda one: one.hold,
        "cost USD": lambda one: one.cost,
        "assumed USD": lambda one: one.assumed_cost,
        "error": lambda one: one.error_code,
        "HTTP status": lambda one: one.status,
        "message": lambda one: one.error_message,
    },
)
_UNITS = {"token": "a million tokens", "use": "one use"}


class _ChargeRow(Struct, frozen=True, kw_only=True):
    """A line of a charge as a file, or what makes it the cost."""

    charge: Charge
    what: str
    amount: Decimal | None
    line: ChargeLine | None = None


_SAVED_CHARGES = CsvTable[_ChargeRow](
    "charges.csv",
    {
        "event": lambda one: one.charge.position,
        "attempt": lambda one: one.charge.attempt,
        "what": lambda one: one.what,
        "model": lambda one: (one.line.model if one.line is not None else None) or one.charge.model,
        "count": lambda one: one.line.count if one.line is not None else None,
        "price USD": lambda one: one.line.price if one.line is not None else None,
        "of": lambda one: _UNITS[one.line.unit] if one.line is not None else None,
        "source": lambda one: one.line.source if one.line is not None else None,
        "amount USD": lambda one: one.amount,
    },
)


class Answer(Struct, frozen=True, kw_only=True):
    """A stored answer as the page shows it."""

    text: str
    size: int
    is_cut: bool


@get(PATH)
async def show_request(
    request: HttpRequest,
    request_id: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template:
    """Show a request of what the viewer may see."""
    found, events = await request_with_events(services, viewer.scope(), request_id)
    targets = targets_of(events)
    return page(
        request,
        "request.html",
        title="Request",
        route=await _route(services, viewer, found) if targets else None,
        found=found,
        names=await labels_of(services.pool, keys=[found.key_id], project_ids=[found.project_id]),
        tries=attempts_of(events),
        targets=targets,
        fates=FATES,
        reasons=REASONS,
        charges=charges_of(events),
        refusal=next((one.event for one in events if isinstance(one.event, RequestRejected)), None),
        events=[(stored, _json(stored.event)) for stored in events],
        answer=await _answer(services, viewer, found, events),
        metadata=_json(found.metadata) if found.metadata else None,
    )


@get(f"{PATH}/plan.csv")
async def save_plan(
    request_id: FromPath[str], viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """Its plan, and what became of each target, as CSV."""
    _, events = await request_with_events(services, viewer.scope(), request_id)
    return _SAVED_PLAN.download(targets_of(events))


@get(f"{PATH}/attempts.csv")
async def save_attempts(
    request_id: FromPath[str], viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """Its attempts as CSV."""
    _, events = await request_with_events(services, viewer.scope(), request_id)
    return _SAVED_ATTEMPTS.download(attempts_of(events))


@get(f"{PATH}/charges.csv")
async def save_charges(
    request_id: FromPath[str], viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """All its charges as CSV: the lines of each, then their rounding, then the cost."""
    _, events = await request_with_events(services, viewer.scope(), request_id)
    return _SAVED_CHARGES.download(row for charge in charges_of(events) for row in _charge_rows(charge))


HANDLERS = (show_request, save_plan, save_attempts, save_charges)


def _charge_rows(charge: Charge) -> Iterator[_ChargeRow]:
    for line in charge.lines:
        yield _ChargeRow(charge=charge, what=line.what.replace("_", " "), amount=line.amount, line=line)
    yield _ChargeRow(charge=charge, what="rounding", amount=charge.rounding)
    yield _ChargeRow(charge=charge, what="cost", amount=charge.cost)


async def _route(services: Services, viewer: Viewer, found: RequestView) -> str | None:
    """The address of the route that a request named; None: it named none, or the route is there no longer."""
    usable = await services.route_admin.list_usable(found.project_id)
    is_route = any(one.name == found.model and is_shown(viewer.caller, one) for one in usable)
    return address_of_route(found.project_id, found.model) if is_route else None


async def _answer(
    services: Services, viewer: Viewer, found: RequestView, events: Sequence[StoredEvent]
) -> Answer | None:
    """The answer if it is stored, for its project's own viewers. The operator reads no content."""
    if viewer.project_id != found.project_id:
        return None
    body = await stored_answer(services, found.project_id, events)
    if body is None:
        return None
    is_cut = len(body) > MAX_SHOWN_ANSWER_BYTES
    text = body[:MAX_SHOWN_ANSWER_BYTES].decode(errors="replace")
    if not is_cut:
        with suppress(msgspec.DecodeError):
            text = msgspec.json.format(body, indent=2).decode(errors="replace")
    return Answer(text=text, size=len(body), is_cut=is_cut)


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
