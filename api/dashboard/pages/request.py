"""One request: the way it went, its charge line by line, and its events."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template
from msgspec import Struct

from api.dashboard.rendering import page
from api.dashboard.viewer import Viewer
from api.requests import HttpRequest
from api.services import Services
from api.stored_answers import request_with_events, stored_answer
from domain.events import RequestRejected, StoredEvent
from projections.reports.charges import charges_of
from projections.reports.labels import labels_of
from projections.reports.requests import RequestView
from projections.request_attempts import attempts_of, targets_of

MAX_SHOWN_ANSWER_BYTES = 64 * 1024


class Answer(Struct, frozen=True, kw_only=True):
    """A stored answer as the page shows it."""

    text: str
    size: int
    is_cut: bool


@get("/requests/{request_id:str}")
async def show_request(
    request: HttpRequest,
    request_id: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template:
    """Show a request of what the viewer may see."""
    found, events = await request_with_events(services, viewer.scope(), request_id)
    return page(
        request,
        "request.html",
        title="Request",
        found=found,
        names=await labels_of(services.pool, keys=[found.key_id], project_ids=[found.project_id]),
        tries=attempts_of(events),
        targets=targets_of(events),
        charges=charges_of(events),
        refusal=next((one.event for one in events if isinstance(one.event, RequestRejected)), None),
        events=[(stored, _json(stored.event)) for stored in events],
        answer=await _answer(services, viewer, found, events),
        metadata=_json(found.metadata) if found.metadata else None,
    )


HANDLERS = (show_request,)


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
