"""The histograms of durations of a report's groups, added up."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Select, cast, func, select, true

from infra.database import Pool
from infra.statements import fetch
from projections.histograms import Measure
from projections.reports.figures import Durations
from projections.reports.sources import Group, Source

MEASURES: tuple[Measure, ...] = ("answer", "first_token")
MAX_ADDED_HERE = 2_500
"""So many histograms are read as they are, and added up here where a group has several. That is as many as lines of a
report have, which PostgreSQL could not make fewer. It adds up what is more, and sorts the buckets of all for that.
"""
ADDED_AT_ONCE = 200
"""Then the event loop has a turn: each takes some 30 microseconds."""


async def read_durations(
    pool: Pool, source: Source, measures: Sequence[Measure] = MEASURES, *, most: int = MAX_ADDED_HERE
) -> dict[Group, Durations]:
    """Return the histograms of each group; none if the source has none. Raises as `infra.statements.fetch`."""
    if source.durations is None or not measures:
        return {}
    durations = source.durations
    c = durations.table.c
    labelled = [column.label(f"g{number}") for number, column in enumerate(durations.columns)]
    conditions = list(durations.conditions)
    if len(measures) < len(MEASURES):
        conditions.append(c.measure == measures[0])
    statement = select(*labelled, c.measure, c.buckets, c.answers).where(*conditions)
    rows: Sequence[Any] = await fetch(pool, statement.limit(most + 1))
    if len(rows) > most:
        rows = await fetch(pool, _added_up(statement, len(labelled)))
    found: defaultdict[Group, dict[Measure, dict[int, int]]] = defaultdict(dict)
    for number, (*group, measure, buckets, answers) in enumerate(rows, start=1):
        if number % ADDED_AT_ONCE == 0:
            await asyncio.sleep(0)
        of_group = found[tuple(group)]
        if measure in of_group:
            add(of_group[measure], zip(buckets, answers, strict=True))
        else:
            of_group[measure] = dict(zip(buckets, answers, strict=True))
    return dict(found)


def added(durations: Sequence[Durations]) -> Durations:
    """Add up histograms by their measures."""
    total: dict[Measure, dict[int, int]] = {measure: {} for measure in MEASURES}
    for one in durations:
        for measure, answers in one.items():
            add(total[measure], answers.items())
    return total


def add(histogram: dict[int, int], answers: Iterable[tuple[int, int]]) -> None:
    """Add buckets with their answers to a histogram."""
    known = histogram.get
    for bucket, number in answers:
        histogram[bucket] = known(bucket, 0) + number


def _added_up(statement: Select[Any], groups: int) -> Select[Any]:
    """The same histograms, those of a group as one."""
    each_row = statement.subquery("histograms")
    names = list(each_row.c)[: groups + 1]
    each = func.unnest(each_row.c.buckets, each_row.c.answers).table_valued("bucket", "answers")
    each = each.render_derived(name="each")
    counted = (
        select(*names, each.c.bucket, cast(func.sum(each.c.answers), BigInteger).label("answers"))
        .join_from(each_row, each, true())
        .group_by(*names, each.c.bucket)
        .subquery("counted")
    )
    names = list(counted.c)[: groups + 1]
    return select(*names, func.array_agg(counted.c.bucket), func.array_agg(counted.c.answers)).group_by(*names)
