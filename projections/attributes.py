"""Usage by what callers say of their requests: each name in their metadata, the session, the agent and the program.

Names and values are the callers' to invent, so they are bounded: of each project and UTC day, the first `MAX_NAMES`
names of metadata are kept, and of each of them the first `MAX_VALUES` values are told apart; the others are one sum.
A value is what it is as JSON: `3` and `"3"` are two.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, TypeAlias

import msgspec

from domain.budget import day_of
from domain.call_origin import Origin
from domain.events import Event, StoredEvent
from infra.database import Connection
from projections.rows import RowType
from projections.sums import SUMS, USAGE_EVENTS, Amounts, Sums, add_to, usage_events

METADATA_PREFIX = "metadata."
MAX_NAMES = 100
MAX_VALUES = 1_000
OTHERS = 0
"""The number of the values that are not told apart."""
NAMES = ""
"""The attribute whose values are the names of metadata."""

KEPT = (
    "completed_requests",
    "cached_requests",
    "failed_requests",
    "prompt_tokens",
    "completion_tokens",
    "cost_nano_usd",
    "assumed_nano_usd",
    "saved_nano_usd",
    "unpriced_requests",
    "estimated_requests",
    "lower_bound_requests",
)
"""Those of `SUMS` that are kept by attribute."""
_KEPT_AT = tuple(map(SUMS.index, KEPT))
_ATTRIBUTE = {"project_id": "text", "name": "text", "day": "date", "number": "integer"}
_GROUP = _ATTRIBUTE | {"key_id": "text"}
_ROW = RowType("usage_attributes_row", _GROUP | dict.fromkeys(KEPT, "bigint"))
_VALUE = RowType("usage_attribute_values_row", _ATTRIBUTE | {"digest": "bytea", "value": "text"})

_Attribute: TypeAlias = tuple[str, str, date]
"""Project, name, day."""
_Value: TypeAlias = tuple[str, str, date, str]
"""An attribute, and its value as JSON."""

_encode = msgspec.json.Encoder().encode

_KNOWN = (
    "SELECT c.number AS candidate, v.number, CASE WHEN v.number IS NULL THEN (SELECT max(m.number) "  # noqa: S608 - constants
    "FROM usage_attribute_values{suffix} m WHERE (m.project_id, m.name, m.day) = (c.project_id, c.name, c.day)) END "
    f"AS newest FROM {_VALUE.source} AS c LEFT JOIN usage_attribute_values{{suffix}} v "
    "ON (v.project_id, v.name, v.day, v.digest) = (c.project_id, c.name, c.day, c.digest)"
)
"""Of candidates, which carry a number by which they are told apart here, and no value."""
_INSERT = f"INSERT INTO usage_attribute_values{{suffix}} ({_VALUE.names}) SELECT * FROM {_VALUE.source}"  # noqa: S608 - as above


class Attributes:
    """Folds answers, costs and failures into daily sums by attribute."""

    name = "attributes"
    tables = ("usage_attributes", "usage_attribute_values")
    reads: frozenset[type[Event]] = USAGE_EVENTS

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Add up by all that is said of a request first: many say the same."""
        said, known = Sums(), _Known()
        for stored, event in usage_events(events):
            if event.metadata or event.origin is not None:
                metadata = known.metadata(event.metadata)
                said.add((stored.project_id, day_of(stored.at), event.key_id, metadata, event.origin), event)
        if not said:
            return
        names: dict[_Value, None] = {}
        counted: list[tuple[_Value, str, Amounts]] = []
        for (project_id, day, key_id, metadata, origin), amounts in said.items():
            for name, value in known.attributes(metadata, origin):
                if name.startswith(METADATA_PREFIX):
                    names[project_id, NAMES, day, name] = None
                counted.append(((project_id, name, day, value), key_id, amounts))
        numbers = await _numbers(connection, list(names), MAX_NAMES, suffix)
        kept = [one for one in counted if numbers.get((one[0][0], NAMES, one[0][2], one[0][1]), 1) != OTHERS]
        numbers = await _numbers(connection, list(dict.fromkeys(value for value, _, _ in kept)), MAX_VALUES, suffix)
        sums = Sums()
        for one, key_id, amounts in kept:
            sums.add_all((*one[:3], numbers[one], key_id), amounts)
        rows = ((*group, *(amounts[at] for at in _KEPT_AT)) for group, amounts in sums.items())
        await add_to(connection, f"usage_attributes{suffix}", _ROW, _GROUP, rows)


class _Known:
    """The attributes of what is said in a batch, each read once: many requests say the same."""

    def __init__(self) -> None:
        self._by_metadata: dict[bytes, list[tuple[str, str]]] = {b"": []}
        self._by_origin: dict[Origin | None, list[tuple[str, str]]] = {None: []}

    def metadata(self, said: Mapping[str, Any] | None) -> bytes:
        """Return metadata as JSON, as a key."""
        if not said:
            return b""
        key = _encode(said)
        if key not in self._by_metadata:
            self._by_metadata[key] = [(METADATA_PREFIX + name, _encode(value).decode()) for name, value in said.items()]
        return key

    def attributes(self, metadata: bytes, origin: Origin | None) -> list[tuple[str, str]]:
        """Return the attributes of a request, by name, with their values as JSON."""
        of_origin = self._by_origin.get(origin)
        if of_origin is None:
            values = ((name, getattr(origin, name)) for name in Origin.__struct_fields__)
            of_origin = [(name, _encode(value).decode()) for name, value in values if value is not None]
            self._by_origin[origin] = of_origin
        return self._by_metadata[metadata] + of_origin


async def _numbers(connection: Connection, values: list[_Value], most: int, suffix: str) -> dict[_Value, int]:
    """Return the numbers of values, which come in the order of the log. New ones get the next, if there is one."""
    if not values:
        return {}
    digests = [hashlib.sha256(value.encode()).digest() for *_, value in values]
    candidates = [(*value[:3], at, digests[at], None) for at, value in enumerate(values)]
    known = {row["candidate"]: row for row in await connection.fetch(_KNOWN.format(suffix=suffix), candidates)}
    newest: dict[_Attribute, int] = {}
    numbers: dict[_Value, int] = {}
    added: list[tuple[Any, ...]] = []
    for at, value in enumerate(values):
        row, attribute = known[at], value[:3]
        if row["number"] is not None:
            numbers[value] = row["number"]
            continue
        number = newest.get(attribute, row["newest"] or 0) + 1
        numbers[value] = number if number <= most else OTHERS
        if number <= most:
            newest[attribute] = number
            added.append((*attribute, number, digests[at], value[3]))
    if added:
        await connection.execute(_INSERT.format(suffix=suffix), added)
    return numbers
