"""Requests, newest first, by what they were and what became of them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from operator import ge, gt, lt
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Text, cast, func, literal_column, select

from domain.money import NanoUsd, to_usd
from domain.pricing import Price
from infra.database import Pool
from infra.ids import first_id
from infra.statements import fetch, fetch_one
from projections.reports.tables import of_scope, requests
from projections.requests import Status
from projections.scope import Scope

MAX_PAGE = 200
MAX_COUNTED = 1_000
"""New requests that are counted; of more it is said that there are more."""

_LONGEST = timedelta(days=31)
"""How much older an id can be than the first event of its request: a queued one waits as long as its job may."""
_CLOCKS_DIFFER_BY = timedelta(hours=1)
_FAILURES = ("failed", "rejected")

_decode_price = msgspec.json.Decoder(Price).decode
_c = requests.c
_JSON = ("price", "metadata")


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


class Search(Struct, frozen=True, kw_only=True):
    """A filter for requests. None means any."""

    scope: Scope
    status: Status | None = None
    model: str | None = None
    """As the caller named it."""
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


async def search(pool: Pool, wanted: Search) -> list[RequestView]:
    """Return the requests that match, newest first. Raises as `infra.statements.fetch`."""
    return [_view(row) for row in await fetch(pool, statement_of(wanted))]


def statement_of(wanted: Search) -> Select[Any]:
    """Return the statement of `search`."""
    return _selected().where(*_conditions(wanted)).order_by(_c.request_id.desc()).limit(wanted.limit)


async def newest_id(pool: Pool, scope: Scope) -> str:
    """Return the id of the newest request of a scope; empty if it has none. Raises as `infra.statements.fetch`."""
    statement = select(_c.request_id).where(*_conditions(Search(scope=scope))).order_by(_c.request_id.desc()).limit(1)
    row = await fetch_one(pool, statement)
    return str(row[0]) if row is not None else ""


async def count_newer(pool: Pool, wanted: Search) -> int:
    """Return how many requests match, at most `MAX_COUNTED`. Raises as `infra.statements.fetch`."""
    found = select(_c.request_id).where(*_conditions(wanted)).limit(MAX_COUNTED).subquery()
    row = await fetch_one(pool, select(func.count()).select_from(found))
    return int(row[0]) if row is not None else 0


async def get_request(pool: Pool, scope: Scope, request_id: str) -> RequestView | None:
    """Return a request; None if there is none in this scope. Raises as `infra.statements.fetch`."""
    wanted = Search(scope=scope)
    row = await fetch_one(pool, _selected().where(*_conditions(wanted), _c.request_id == request_id))
    return _view(row) if row is not None else None


def _selected() -> Select[Any]:
    plain = [column for column in _c if column.name not in _JSON]
    return select(*plain, *(cast(_c[name], Text).label(name) for name in _JSON))


def _conditions(wanted: Search) -> list[ColumnElement[bool]]:
    """Return the conditions for the filters that are set."""
    equal = {
        _c.model: wanted.model,
        _c.provider: wanted.provider,
        _c.operation: wanted.operation,
        _c.session: wanted.session,
        _c.error_code: wanted.error_code,
    }
    conditions = of_scope(requests, wanted.scope)
    conditions += [column == value for column, value in equal.items() if value is not None]
    bounds: tuple[tuple[ColumnElement[Any], Callable[[Any, Any], Any], Any], ...] = (
        (_c.at, ge, wanted.since),
        (_c.at, lt, wanted.until),
        (_c.request_id, ge, _id_at(wanted.since, -_LONGEST)),
        (_c.request_id, lt, _id_at(wanted.until, _CLOCKS_DIFFER_BY)),
        (_c.request_id, lt, wanted.before),
        (_c.request_id, gt, wanted.after),
        (_c.cost_nano_usd, ge, wanted.min_cost_nano_usd),
        (_c.latency_ms, ge, wanted.min_latency_ms),
    )
    conditions += [holds(column, bound) for column, holds, bound in bounds if bound is not None]
    if wanted.status in _FAILURES:
        conditions.append(_c.status == literal_column(f"'{wanted.status}'"))  # a constant, for the index of these
    elif wanted.status is not None:
        conditions.append(_c.status == wanted.status)
    if wanted.metadata is not None:
        name, value = wanted.metadata
        conditions.append(_c.metadata[name].astext == value)
    return conditions


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
