"""Histograms of durations as rows of a table, and how a fold adds to them. Their buckets: `domain/latency.py`.

A histogram is two arrays in one row, ascending buckets and the answers in each: a batch changes hundreds of buckets,
but a few rows.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import msgspec

from domain.events import RequestCompleted, RequestServedFromCache
from infra.database import Connection
from projections.rows import RowType

Measure: TypeAlias = Literal["answer", "first_token"]
Histogram: TypeAlias = defaultdict[int, int]
"""Answers by bucket. A `Counter` would count in Python: three calls for each duration."""
Histograms: TypeAlias = defaultdict[Any, Histogram]
"""By group."""

_STORED = (
    "SELECT g.number, t.buckets, t.answers FROM {source} WITH ORDINALITY AS g ({names}, number) "
    "JOIN {table} t USING ({names})"
)
_WRITE = (
    "INSERT INTO {table} ({names}, buckets, answers) "
    "SELECT {names}, buckets::integer[], answers::bigint[] FROM {source} "
    "ON CONFLICT ({names}) DO UPDATE SET buckets = excluded.buckets, answers = excluded.answers"
)


_encode = msgspec.json.Encoder().encode


def row_types(table: str, keys: Mapping[str, str]) -> tuple[RowType, RowType]:
    """The types of a table of histograms: of its primary key, whose columns are `keys`, and of a whole row.

    The arrays of a row are text, as PostgreSQL writes them: they are long, and asyncpg takes long for each element.
    """
    return RowType(f"{table}_group", keys), RowType(f"{table}_row", {**keys, "buckets": "text", "answers": "text"})


def durations_of(event: object) -> tuple[tuple[Measure, int], ...]:
    """What took how long, in milliseconds, as an event says."""
    match event:
        case RequestCompleted(first_token_ms=int() as first_token_ms):
            return ("answer", event.latency_ms), ("first_token", first_token_ms)
        case RequestCompleted() | RequestServedFromCache():
            return (("answer", event.latency_ms),)
        case _:
            return ()


def empty_histograms() -> Histograms:
    """Return histograms to add to: the histogram of a group is made when it is first read."""
    return defaultdict(partial(defaultdict, int))


def add_answers(histogram: Histogram, answers: Mapping[int, int]) -> None:
    """Add the answers of another histogram."""
    for bucket, count in answers.items():
        histogram[bucket] += count


async def add_histograms(
    connection: Connection,
    table: str,
    group_type: RowType,
    row_type: RowType,
    histograms: Mapping[tuple[Any, ...], Mapping[int, int]],
) -> None:
    """Add histograms to those of a table: read, added here, and written, for nobody else writes them.

    The types are those of `row_types`; `table` is a constant of the caller's.
    """
    if not histograms:
        return
    names = group_type.names
    groups = sorted(histograms)
    rows = await connection.fetch(_STORED.format(source=group_type.source, names=names, table=table), groups)
    stored = {row["number"]: dict(zip(row["buckets"], row["answers"], strict=True)) for row in rows}
    merged = [defaultdict(int, stored.get(number, {})) for number in range(1, len(groups) + 1)]
    for group, answers in zip(groups, merged, strict=True):
        add_answers(answers, histograms[group])
    counted = (zip(*sorted(answers.items()), strict=True) for answers in merged)
    written = [(*group, *map(_array, both)) for group, both in zip(groups, counted, strict=True)]
    await connection.execute(_WRITE.format(source=row_type.source, names=names, table=table), written)


def _array(numbers: Sequence[int]) -> str:
    """Write an array as PostgreSQL reads it."""
    return f"{{{_encode(numbers)[1:-1].decode()}}}"
