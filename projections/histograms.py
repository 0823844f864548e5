"""Histograms of durations as rows of a table, and how a fold adds to them. Their buckets: `domain/latency.py`.

A histogram is two arrays in one row, ascending buckets and the answers in each: a batch changes hundreds of buckets,
but a few rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from domain.events import RequestCompleted, RequestServedFromCache
from infra.database import Connection

Measure: TypeAlias = Literal["answer", "first_token"]

_STORED = (
    "SELECT g.number, t.buckets, t.answers FROM unnest({arrays}) WITH ORDINALITY AS g ({names}, number) "
    "JOIN {table} t USING ({names})"
)
_WRITE = (
    "INSERT INTO {table} ({names}, buckets, answers) VALUES ({values}) "
    "ON CONFLICT ({names}) DO UPDATE SET buckets = excluded.buckets, answers = excluded.answers"
)


def durations_of(event: object) -> Iterator[tuple[Measure, int]]:
    """What took how long, in milliseconds, as an event says."""
    if isinstance(event, RequestCompleted | RequestServedFromCache):
        yield "answer", event.latency_ms
    if isinstance(event, RequestCompleted) and event.first_token_ms is not None:
        yield "first_token", event.first_token_ms


async def add_histograms(
    connection: Connection,
    table: str,
    keys: Mapping[str, str],
    histograms: Mapping[tuple[Any, ...], Mapping[int, int]],
) -> None:
    """Add histograms to those of a table: read, added here, and written, for nobody else writes them.

    `keys`: the columns of its primary key, with their PostgreSQL types. They and `table` are constants of the caller's.
    """
    if not histograms:
        return
    names = ", ".join(keys)
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(keys.values(), 1))
    values = ", ".join(f"${number}" for number in range(1, len(keys) + 3))
    groups = sorted(histograms)
    columns = list(map(list, zip(*groups, strict=True)))
    rows = await connection.fetch(_STORED.format(arrays=arrays, names=names, table=table), *columns)
    merged = [Counter(histograms[group]) for group in groups]
    for row in rows:
        merged[row["number"] - 1].update(dict(zip(row["buckets"], row["answers"], strict=True)))
    buckets = [sorted(answers) for answers in merged]
    counted = [[answers[bucket] for bucket in own] for answers, own in zip(merged, buckets, strict=True)]
    # PostgreSQL has no arrays of arrays that differ in length
    written = [(*group, *both) for group, *both in zip(groups, buckets, counted, strict=True)]
    await connection.executemany(_WRITE.format(table=table, names=names, values=values), written)
