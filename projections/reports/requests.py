"""Requests, newest first, by what they were and what became of them."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from operator import eq, ge, gt, lt
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Select, Text, cast, func, literal_column, select

from domain.errors import Overloaded
from domain.money import NanoUsd, to_usd
from domain.pricing import Price
from infra.database import Pool
from infra.ids import first_id
from infra.snapshot import snapshot
from infra.statements import fetch, fetch_one
from projections.reports.tables import of_scope, requests
from projections.requests import LATE_AFTER, Status
from projections.scope import Scope

MAX_PAGE = 200
LOOKED_AT_ONCE = 5_000
"""Requests that a first statement looks at for a filter that no index answers: a few milliseconds of the database's."""
MOST_LOOKED_AT_ONCE = 40_000
"""Each statement looks at twice as many as the one before, up to these, so that most of a look's time is PostgreSQL's.
A look that a slow disk ends goes on with few.
"""
LOOK_S = 0.05
"""A look takes no further step after this time, and returns the id from which the caller can look further. It reads
the few requests that came late in any case.
"""
MAX_COUNTED = 1_000
"""New requests that are counted; of more it is said that there are more."""

_LONGEST = timedelta(days=31)
"""How much older an id can be than the first event of its request: a queued one waits as long as its job may."""
_CLOCKS_DIFFER_BY = timedelta(hours=1)
_FAILURES = ("failed", "rejected")

_decode_price = msgspec.json.Decoder(Price).decode
_c = requests.c
_JSON = ("price", "metadata")
_VIEWED: Select[Any] = select(
    *(column for column in _c if column.name not in (*_JSON, "served_model")),
    func.coalesce(_c.served_model, _c.model).label("served_model"),
    *(cast(_c[name], Text).label(name) for name in _JSON),
)
"""The columns of a request that reports show."""


class RequestView(Struct, frozen=True, kw_only=True, rename="camel"):
    """A request as `GET /requests` shows it."""

    request_id: str
    project_id: str
    key_id: str
    at: datetime
    operation: str
    model: str
    provider: str
    status: Status
    attempts: int
    latency_ms: int | None
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    tokens_estimated: bool
    """The provider did not report them: the answer was cut, or came without its usage."""
    cost: Decimal | None
    """None: no cost has been recorded, or the model has no price."""
    cost_is_lower_bound: bool
    """Something was used that has no known price, and the cost is without it."""
    assumed_cost: Decimal
    saved_cost: Decimal
    price: Price | None
    error_code: str | None
    error_message: str | None
    origin_request_id: str | None
    """The request whose response was served from the cache, or whose end was given again to its retry."""
    metadata: dict[str, Any] | None
    session: str | None
    """This and what follows: where it came from, as its client says."""
    agent: str | None
    client: str | None
    first_token_ms: int | None
    """From admission to the first of a stream's output; null: it came in one piece."""
    served_model: str
    """The model of the target that answered, or at which the request ended; `model`, if that is no route and has no
    fallbacks.
    """


class Search(Struct, frozen=True, kw_only=True):
    """A filter for requests. None means any."""

    scope: Scope
    status: Status | None = None
    model: str | None = None
    """As the caller named it."""
    served: str | None = None
    """The model of the target that answered, or at which the request ended."""
    provider: str | None = None
    operation: str | None = None
    session: str | None = None
    error_code: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""
    min_cost_nano_usd: NanoUsd | None = None
    min_latency_ms: int | None = None
    metadata: tuple[str, str] | None = None
    """A name, and its value: a text, or anything else as JSON."""
    before: str | None = None
    """The request id at which the last page ended."""
    after: str | None = None
    """Only requests that are newer than this one."""
    limit: int = 50


class Stretch(Struct, frozen=True, kw_only=True):
    """Requests whose ids lie from `first` up to `end`, which is not one of them. None: there is no bound."""

    first: str | None = None
    end: str | None = None
    of_late: bool = False
    """Only those whose first event came late."""


class Found(Struct, frozen=True, kw_only=True):
    """A page of requests, newest first."""

    requests: list[RequestView]
    next: str | None
    """The id before which to look for more; None: every one was looked at."""


class Newer(Struct, frozen=True, kw_only=True):
    """How many requests are newer than one."""

    count: int
    is_more: bool
    """There may be more."""


async def search(pool: Pool, wanted: Search, *, look_s: float = LOOK_S) -> Found:
    """Return requests that match, newest first.

    No index finds what some filters ask for, so the newest requests are looked at in turn. A look that takes longer
    than `look_s` ends with what it has found, which may be nothing, and with the id from which to look further.

    Raises:
        Unavailable: the database is away.
        Overloaded: the first statement takes too long, or no connection is free.

    """
    ends_at_s = time.monotonic() + look_s
    found: list[RequestView] = []
    before, looked_at = wanted.before, LOOKED_AT_ONCE
    for stretch in _stretches(wanted):
        while True:
            rest = replace(wanted, before=before, limit=wanted.limit - len(found))
            try:
                more, reached = await _look(pool, rest, stretch, looked_at)
            except Overloaded:
                if before == wanted.before:
                    raise
                return Found(requests=found, next=before)  # from there a look is small again
            found += more
            if len(found) == wanted.limit:
                return Found(requests=found, next=found[-1].request_id)
            if reached is None:  # the stretch of late ones has few, and an index for them
                break
            before, looked_at = reached, min(2 * looked_at, MOST_LOOKED_AT_ONCE)
            if time.monotonic() > ends_at_s:
                return Found(requests=found, next=reached)
    return Found(requests=found, next=None)


def statement_of(
    wanted: Search,
    stretch: Stretch = Stretch(),  # noqa: B008 - frozen
    down_to: str | None = None,
) -> Select[Any]:
    """Return the statement that finds requests of a stretch, down to an id, which is among them. None: all of it."""
    conditions = [*_found_by_index(wanted, stretch, down_to), *_others(wanted)]
    return _VIEWED.where(*conditions).order_by(_c.request_id.desc()).limit(wanted.limit)


async def newest_id(pool: Pool, scope: Scope) -> str:
    """Return the id of the newest request of a scope; empty if it has none. Raises as `infra.statements.fetch`."""
    statement = select(_c.request_id).where(*of_scope(requests, scope)).order_by(_c.request_id.desc()).limit(1)
    row = await fetch_one(pool, statement)
    return str(row[0]) if row is not None else ""


async def count_newer(pool: Pool, wanted: Search) -> Newer:
    """Return how many requests match, of the `LOOKED_AT_ONCE` newest. Raises as `infra.statements.fetch`."""
    stretch = Stretch()
    reached = await _reached(pool, wanted, stretch, LOOKED_AT_ONCE)
    conditions = [*_found_by_index(wanted, stretch, reached), *_others(wanted)]
    found = select(_c.request_id).where(*conditions).limit(MAX_COUNTED).subquery()
    row = await fetch_one(pool, select(func.count()).select_from(found))
    count = int(row[0]) if row is not None else 0
    return Newer(count=count, is_more=count == MAX_COUNTED or reached is not None)


async def get_request(pool: Pool, scope: Scope, request_id: str) -> RequestView | None:
    """Return a request; None if there is none in this scope. Raises as `infra.statements.fetch`."""
    row = await fetch_one(pool, _VIEWED.where(*of_scope(requests, scope), _c.request_id == request_id))
    return _view(row) if row is not None else None


def _stretches(wanted: Search) -> Iterator[Stretch]:
    """The stretches of ids in which requests of the wanted time lie, the newest first: that time's own ids, and before
    them those of the few requests that came late.
    """
    first = _id_at(wanted.since, -LATE_AFTER)
    yield Stretch(first=first)
    if first is not None:
        yield Stretch(first=_id_at(wanted.since, -_LONGEST), end=first, of_late=True)


async def _look(pool: Pool, wanted: Search, stretch: Stretch, looked_at: int) -> tuple[list[RequestView], str | None]:
    """Look at so many requests of a stretch. Return those that match, and the last one that was looked at."""
    async with snapshot(pool) as at_once:  # a request that comes between the two would move what is reached
        reached = await _reached(at_once, wanted, stretch, looked_at)
        return [_view(row) for row in await fetch(at_once, statement_of(wanted, stretch, reached))], reached


async def _reached(pool: Pool, wanted: Search, stretch: Stretch, looked_at: int) -> str | None:
    """Return the id of the last of so many requests that are looked at in a stretch; None: it has no more, or an index
    finds all that are wanted.
    """
    if not _others(wanted):
        return None
    if wanted.scope.key_id is not None and wanted.session is None:  # a key is of one project: its index has no other
        wanted = replace(wanted, scope=replace(wanted.scope, project_id=None))
    statement = select(_c.request_id).where(*_found_by_index(wanted, stretch)).order_by(_c.request_id.desc())
    row = await fetch_one(pool, statement.offset(looked_at - 1).limit(1))
    return str(row[0]) if row is not None else None


def _found_by_index(wanted: Search, stretch: Stretch, down_to: str | None = None) -> list[ColumnElement[bool]]:
    """Return the conditions that an index answers in the order of ids."""
    conditions = of_scope(requests, wanted.scope)
    bounds: tuple[tuple[Callable[[Any, Any], Any], str | None], ...] = (
        (ge, stretch.first),
        (ge, down_to),
        (lt, stretch.end),
        (lt, _id_at(wanted.until, _CLOCKS_DIFFER_BY)),
        (lt, wanted.before),
        (gt, wanted.after),
    )
    conditions += [holds(_c.request_id, bound) for holds, bound in bounds if bound is not None]
    if stretch.of_late:
        conditions.append(_c.is_late)
    if _has_failures(wanted.scope) and wanted.status in _FAILURES:
        conditions.append(_c.status == literal_column(f"'{wanted.status}'"))  # a constant, for the index of these
    if _has_failures(wanted.scope) and wanted.error_code is not None:
        conditions.append(_c.error_code == wanted.error_code)
    if _has_sessions(wanted.scope) and wanted.session is not None:
        conditions.append(_c.session == wanted.session)
    return conditions


def _others(wanted: Search) -> list[ColumnElement[bool]]:
    """Return the conditions for which each request has to be looked at."""
    c, served = _c, func.coalesce(_c.served_model, _c.model)
    by_failures, by_session = _has_failures(wanted.scope), _has_sessions(wanted.scope)
    filters: tuple[tuple[ColumnElement[Any], Callable[[Any, Any], Any], Any], ...] = (
        (c.model, eq, wanted.model),
        (served, eq, wanted.served),
        (c.provider, eq, wanted.provider),
        (c.operation, eq, wanted.operation),
        (c.status, eq, wanted.status if not by_failures or wanted.status not in _FAILURES else None),
        (c.session, eq, wanted.session if not by_session else None),
        (c.error_code, eq, wanted.error_code if not by_failures else None),
        (c.at, ge, wanted.since),
        (c.at, lt, wanted.until),
        (c.cost_nano_usd, ge, wanted.min_cost_nano_usd),
        (c.latency_ms, ge, wanted.min_latency_ms),
    )
    conditions: list[ColumnElement[bool]] = [
        holds(column, value) for column, holds, value in filters if value is not None
    ]
    if wanted.metadata is not None:
        name, value = wanted.metadata
        conditions.append(c.metadata[name].astext == value)
    return conditions


def _has_failures(scope: Scope) -> bool:
    """Whether an index has the failures of a scope in the order of ids: of everybody together."""
    return scope.project_id is None and scope.key_id is None


def _has_sessions(scope: Scope) -> bool:
    """Whether an index has the sessions of a scope in the order of ids: of one project."""
    return scope.project_id is not None


def _id_at(at: datetime | None, later: timedelta) -> str | None:
    """Return the first id of a time. Ids sort by time, so the index skips the rows of other days."""
    if at is None:
        return None
    try:
        return first_id("req", at + later)
    except OverflowError:  # at either end of the calendar no bound is needed
        return None


def _view(row: asyncpg.Record) -> RequestView:
    cost = row["cost_nano_usd"]
    plain = (name for name in RequestView.__struct_fields__ if name in row and name not in _JSON)
    return RequestView(
        **{name: row[name] for name in plain},
        cost=to_usd(NanoUsd(cost)) if cost is not None else None,
        assumed_cost=to_usd(NanoUsd(row["assumed_nano_usd"])),
        saved_cost=to_usd(NanoUsd(row["saved_nano_usd"])),
        price=_decode_price(row["price"]) if row["price"] is not None else None,
        metadata=msgspec.json.decode(row["metadata"]) if row["metadata"] is not None else None,
    )
