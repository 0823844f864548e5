"""Reports: whatever they are grouped by, they add up to what the log says, and show nobody another's figures."""

import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import asyncpg
import pytest
from msgspec.structs import replace

from api.dashboard.lateness import lateness
from domain.call_origin import Origin
from domain.errors import InvalidRequest
from domain.events import (
    CostIncurred,
    CostReconciled,
    RequestCompleted,
    RequestFailed,
    RequestServedFromCache,
    request_stream,
)
from domain.money import NanoUsd, to_usd
from domain.tokens import TokenUsage
from infra.event_log import Commit
from infra.ids import first_id, new_id
from infra.snapshot import snapshot
from infra.statements import compiled
from projections.attributes import KEPT, MAX_NAMES, MAX_VALUES, Attributes
from projections.reports.costs import MAX_KEYS, breakdown, cost_report
from projections.reports.durations import read_durations
from projections.reports.labels import metadata_names, name_of_key
from projections.reports.money import caps, spends
from projections.reports.requests import (
    LOOKED_AT_ONCE,
    Newer,
    RequestView,
    Search,
    count_newer,
    get_request,
    search,
    statement_of,
)
from projections.reports.scope import Window
from projections.reports.sources import GROUPS, ORIGINS, source_of
from projections.reports.usage import (
    Time,
    monday_of,
    totals,
    usage_of_most,
    usage_over_time,
    usage_report,
    usage_stats,
)
from projections.rollups import Rollups
from projections.scope import Scope
from projections.sums import SUMS
from projections.totals import Totals
from tests.integration.test_projections import remember
from tests.support.history import DAYS, FIRST_DAY
from tests.support.jobs import make_identity
from tests.support.ledger import RealLedger

WINDOW = Window(first=FIRST_DAY.date(), last=(FIRST_DAY + timedelta(days=DAYS)).date())
EVERYBODY = Scope(project_id=None)
MIGRATIONS = Path(__file__).parent.parent.parent / "migrations" / "sql"


async def scopes_of(ledger: RealLedger) -> list[Scope]:
    """Everybody's usage, a project's, and a key's."""
    row = await ledger.pool.fetchrow("SELECT project_id, key_id FROM usage_daily ORDER BY cost_nano_usd DESC LIMIT 1")
    project = Scope(project_id=row["project_id"])
    return [EVERYBODY, project, Scope(project_id=row["project_id"], key_id=row["key_id"])]


async def found_by(ledger: RealLedger, wanted: Search) -> list[RequestView]:
    """Every request that a search finds, however often it has to look further."""
    page = await search(ledger.pool, wanted)
    assert page.next is None or len(page.requests) == wanted.limit
    return page.requests


async def cost_in_log(ledger: RealLedger, scope: Scope) -> Decimal:
    spent = sum(
        stored.event.cost_nano_usd or 0
        for stored in await ledger.log.read_after(0, limit=100_000)
        if isinstance(stored.event, CostIncurred | CostReconciled)
        and scope.project_id in (None, stored.project_id)
        and scope.key_id in (None, stored.event.key_id)
    )
    return to_usd(NanoUsd(spent))


async def test_costs_by_any_groups_add_up_to_what_the_log_says(ledger: RealLedger) -> None:
    await remember(ledger, 21, 300)
    await ledger.fold()
    singles = [(group,) for group in (*GROUPS, *ORIGINS, "metadata.team", "metadata.x")]
    asked = {"model", "provider", "operation"}
    pairs = [
        pair
        for pair in itertools.permutations(GROUPS, 2)
        if set(pair) != {"day", "hour"} and not ({"key", "hour"} == set(pair) & {"key", "hour"} and asked & set(pair))
    ]
    pairs += [("metadata.team", "day"), ("key", "metadata.x"), ("project", "session")]
    for scope in await scopes_of(ledger):
        expected = await cost_in_log(ledger, scope)
        assert expected > 0
        for groups in singles + pairs:
            if scope.key_id is not None and "hour" in groups and asked & set(groups):
                continue
            report = await cost_report(ledger.pool, scope, WINDOW, groups)
            assert report.total_cost == expected, (scope, groups)
            assert sum(line.cost for line in report.breakdown) == expected, (scope, groups)


async def test_what_a_request_does_not_say_is_a_line_of_its_own(ledger: RealLedger) -> None:
    await remember(ledger, 22, 200)
    await ledger.fold()
    by_model = await cost_report(ledger.pool, EVERYBODY, WINDOW, ("model",))
    by_team = await cost_report(ledger.pool, EVERYBODY, WINDOW, ("metadata.team",))
    teams = Counter(repr(line.metadata) for line in by_team.breakdown)
    assert teams == {"'a'": 1, "'b'": 1, "3": 1, "None": 2}  # a null that was said, and nothing
    assert sum(line.requests for line in by_team.breakdown) == sum(line.requests for line in by_model.breakdown)
    by_agent = await cost_report(ledger.pool, EVERYBODY, WINDOW, ("agent",))
    assert {line.agent for line in by_agent.breakdown} == {"a", None}


async def said(
    ledger: RealLedger, metadata: dict[str, Any], origin: Origin | None = None, *, key_id: str = "key_1"
) -> None:
    """Append a request that says so, and costs 7 nano-dollars."""
    request, at = new_id("req"), FIRST_DAY + timedelta(hours=5)
    event = RequestServedFromCache(
        request_id=request,
        key_id=key_id,
        operation="chat",
        model="m",
        provider="p",
        metadata=metadata,
        origin=origin,
        origin_request_id="req_0",
        usage=TokenUsage(input=1),
        saved_nano_usd=NanoUsd(7),
        latency_ms=1,
    )
    stream = request_stream(request)
    await ledger.log.append(Commit(stream=stream, expected_version=0, project_id="prj_1", at=at, events=(event,)))


async def test_a_key_learns_the_names_of_its_own_metadata_and_of_itself_alone(ledger: RealLedger) -> None:
    await said(ledger, {"team": "a"})
    await said(ledger, {"secret": "a"}, key_id="key_2")
    await ledger.fold()
    window = Window(first=FIRST_DAY.date(), last=FIRST_DAY.date())
    assert await metadata_names(ledger.pool, Scope(project_id="prj_1", key_id="key_1"), window) == ["team"]
    assert await metadata_names(ledger.pool, Scope(project_id="prj_1"), window) == ["secret", "team"]
    project = await ledger.new_project()
    key, other = await ledger.new_key(project), await ledger.new_key(project)
    assert await name_of_key(ledger.pool, Scope(project_id=project), key) is not None
    assert await name_of_key(ledger.pool, EVERYBODY, key) is not None
    assert await name_of_key(ledger.pool, Scope(project_id="prj_1"), key) is None
    assert await name_of_key(ledger.pool, Scope(project_id=project, key_id=other), key) is None


async def test_figures_that_are_behind_the_log_or_end_before_a_bad_event_are_said_to_be(ledger: RealLedger) -> None:
    scope = Scope(project_id="prj_1")
    await said(ledger, {})
    await ledger.fold()
    assert await lateness(ledger.pool, scope, "rollups", "budgets") is None
    await said(ledger, {})
    late = await lateness(ledger.pool, scope, "rollups", "budgets")
    assert late is not None
    assert "behind the log" in late
    await ledger.fold()
    await ledger.owner.execute(
        "INSERT INTO quarantined_projects (project_id, position, folded, error) VALUES ('prj_1', 1, '{}', 'by hand')"
    )
    late = await lateness(ledger.pool, scope, "rollups", "budgets")
    assert late is not None
    assert "cannot be folded" in late
    assert await lateness(ledger.pool, Scope(project_id="prj_2"), "rollups", "budgets") is None


async def test_a_report_is_of_one_moment_while_requests_go_on(ledger: RealLedger) -> None:
    await said(ledger, {"team": "a"})
    await ledger.fold()
    async with snapshot(ledger.pool) as pool:
        first = await usage_report(pool, EVERYBODY, WINDOW, ("model",))
        await said(ledger, {"team": "b"})
        await ledger.fold()
        assert await usage_report(pool, EVERYBODY, WINDOW, ("model",)) == first
    assert (await usage_report(ledger.pool, EVERYBODY, WINDOW, ("model",))).totals.requests == 2


async def test_values_beyond_the_bound_are_one_line(ledger: RealLedger) -> None:
    for number in range(MAX_VALUES + 5):
        await said(ledger, {"user": number})
        if number == MAX_VALUES // 2:
            await ledger.fold()
    await said(ledger, {"user": 0})
    await ledger.fold()
    report = await cost_report(ledger.pool, EVERYBODY, WINDOW, ("metadata.user",))
    assert sum(line.requests for line in report.breakdown) == MAX_VALUES + 6
    assert [line.requests for line in report.breakdown if line.is_rest] == [5]
    assert [line.requests for line in report.breakdown if line.metadata == 0] == [2]
    assert report.saved_cost == to_usd(NanoUsd(7 * (MAX_VALUES + 6)))


async def test_names_beyond_the_bound_are_not_told_apart(ledger: RealLedger) -> None:
    for number in range(MAX_NAMES + 1):
        await said(ledger, {f"name{number}": "x"})
    await ledger.fold()
    kept = await cost_report(ledger.pool, EVERYBODY, WINDOW, (f"metadata.name{MAX_NAMES - 1}",))
    assert [(line.metadata, line.requests) for line in kept.breakdown if line.metadata] == [("x", 1)]
    beyond = await cost_report(ledger.pool, EVERYBODY, WINDOW, (f"metadata.name{MAX_NAMES}",))
    assert [(line.metadata, line.requests) for line in beyond.breakdown] == [(None, MAX_NAMES + 1)]


async def test_percentiles_are_those_of_the_answers(ledger: RealLedger) -> None:
    await remember(ledger, 23, 300)
    await ledger.fold()
    answers, first = [], []
    for stored in await ledger.log.read_after(0, limit=100_000):
        if isinstance(stored.event, RequestCompleted | RequestServedFromCache):
            answers.append(stored.event.latency_ms)
        if isinstance(stored.event, RequestCompleted) and stored.event.first_token_ms is not None:
            first.append(stored.event.first_token_ms)
    stats = await usage_stats(ledger.pool, EVERYBODY, WINDOW)
    for found, durations, percent in (
        (stats.totals.p50_latency_ms, answers, 50),
        (stats.totals.p95_latency_ms, answers, 95),
        (stats.totals.p50_first_token_ms, first, 50),
    ):
        exact = sorted(durations)[-(-len(durations) * percent // 100) - 1]
        assert found is not None
        assert abs(found - exact) <= exact * 0.02 + 1
    assert sum(day.requests for day in stats.daily) == stats.totals.requests


async def test_histograms_are_the_same_whoever_adds_them_up(ledger: RealLedger) -> None:
    await remember(ledger, 23, 300)
    await ledger.fold()
    for groups in ((), ("day",), ("model",), ("key", "day"), ("project", "hour")):
        source = source_of(EVERYBODY, Window(first=WINDOW.first, last=WINDOW.first + timedelta(days=6)), groups)
        here = await read_durations(ledger.pool, source)
        assert here
        assert await read_durations(ledger.pool, source, most=1) == here
        of_answers = {group: {"answer": found["answer"]} for group, found in here.items() if "answer" in found}
        assert await read_durations(ledger.pool, source, ("answer",)) == of_answers


async def used_by_keys(ledger: RealLedger, keys: int, days: int) -> None:
    """Usage of two models by so many keys on each day from 2025-01-01 on: key n pays n nano-dollars for each."""
    amounts = "1, 0, 0, 0, 0, 0, k, 0, 0, 0, 0, 0, 0"
    await ledger.owner.execute(
        f"INSERT INTO usage_daily SELECT 'prj_1', '2025-01-01'::date + d, 'key_' || k, 'chat', 'p', m, {amounts} "
        "FROM generate_series(1, $1::int) k, generate_series(0, $2::int - 1) d, unnest(ARRAY['m1', 'm2']) m",
        keys,
        days,
    )
    text = (MIGRATIONS / "0020_usage_rollups.sql").read_text()
    begins = text.index("INSERT INTO usage_rollups")
    await ledger.owner.execute(text[begins : text.index(";", begins)])
    await fill_in(ledger, "0027_usage_totals.sql")


async def test_the_usage_of_keys_is_that_of_the_days_of_a_window_whatever_months_it_cuts(ledger: RealLedger) -> None:
    await used_by_keys(ledger, keys=3, days=120)
    first = date(2025, 1, 1)
    for begins, days in itertools.product((0, 1, 15, 29, 31, 58), (1, 2, 16, 27, 31, 60)):
        window = Window(first=first + timedelta(days=begins), last=first + timedelta(days=begins + days - 1))
        report = await usage_report(ledger.pool, EVERYBODY, window, ("key",))
        assert [(line.group["key"], line.requests, line.cost) for line in report.lines] == [
            (f"key_{key}", 2 * days, to_usd(NanoUsd(2 * days * key))) for key in (3, 2, 1)
        ], window
        assert report.totals.requests == 6 * days


async def test_keys_beyond_the_bound_are_one_line_if_they_are_told_apart_further(ledger: RealLedger) -> None:
    await used_by_keys(ledger, keys=MAX_KEYS + 4, days=2)
    window = Window(first=date(2025, 1, 1), last=date(2025, 1, 2))
    for groups in (("key", "model"), ("model", "key"), ("day", "key"), ("key", "day")):
        report = await usage_report(ledger.pool, EVERYBODY, window, groups)
        told = {line.group["key"] for line in report.lines if not line.is_rest}
        assert told == {f"key_{number}" for number in range(5, MAX_KEYS + 5)}
        assert report.lines_left_out == 4
        (rest,) = (line for line in report.lines if line.is_rest)
        assert rest.requests == 4 * 2 * 2
        assert rest.cost == to_usd(NanoUsd((1 + 2 + 3 + 4) * 2 * 2))
        assert sum(line.cost for line in report.lines) == report.totals.cost


async def test_a_report_has_the_same_groups_of_the_time_before(ledger: RealLedger) -> None:
    await remember(ledger, 24, 300)
    await ledger.fold()
    half = Window(first=WINDOW.first + timedelta(days=3), last=WINDOW.first + timedelta(days=5))
    later = await usage_report(ledger.pool, EVERYBODY, half, ("model", "day"))
    before = await usage_report(ledger.pool, EVERYBODY, half.before(), ("model", "day"))
    assert later.previous_totals == before.totals
    costs = {(line.group["model"], line.group["day"]): line.cost for line in before.lines}
    compared = 0
    for line in later.lines:
        moved = datetime.fromisoformat(line.group["day"]) - timedelta(days=3)
        previous = costs.get((line.group["model"], f"{moved:%Y-%m-%d}"))
        assert (line.previous.cost if line.previous else None) == previous
        compared += previous is not None
    assert compared >= 6


async def test_what_is_not_counted_by_what_callers_say_is_not_known(ledger: RealLedger) -> None:
    await said(ledger, {"team": "a"})
    await ledger.fold()
    report = await usage_report(ledger.pool, EVERYBODY, WINDOW, ("metadata.team",))
    (line,) = report.lines
    unknown = (line.rejected_requests, line.cached_prompt_tokens, line.cache_write_tokens, line.reasoning_tokens)
    assert unknown == (None, None, None, None)
    assert (line.cached_requests, report.totals.rejected_requests, report.totals.reasoning_tokens) == (1, 0, 0)


@pytest.mark.parametrize(
    "groups",
    [("model", "model"), ("day", "hour"), ("session", "model"), ("metadata.", "day"), ("x",), ("model", "day", "key")],
)
async def test_groups_that_cannot_be_told_apart_are_refused(ledger: RealLedger, groups: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        await cost_report(ledger.pool, EVERYBODY, WINDOW, groups)


async def test_a_scope_has_its_own_requests_alone(ledger: RealLedger) -> None:
    await remember(ledger, 25, 200)
    await ledger.fold()
    _, project, key = await scopes_of(ledger)
    every = await found_by(ledger, Search(scope=EVERYBODY, limit=200))
    assert len({view.project_id for view in every}) == 2
    own = await found_by(ledger, Search(scope=key, limit=200))
    assert {(view.project_id, view.key_id) for view in own} == {(key.project_id, key.key_id)}
    foreign = next(view for view in every if view.project_id != project.project_id)
    assert await get_request(ledger.pool, project, foreign.request_id) is None
    assert await get_request(ledger.pool, EVERYBODY, foreign.request_id) == foreign


async def test_requests_are_found_by_what_they_were(ledger: RealLedger) -> None:
    await remember(ledger, 26, 300)
    await ledger.fold()
    every = await found_by(ledger, Search(scope=EVERYBODY, limit=10_000))
    middle = sorted(view.latency_ms or 0 for view in every)[150]
    least = NanoUsd(5_000)
    filters: dict[str, tuple[dict[str, Any], Any]] = {
        "status": ({"status": "failed"}, lambda view: view.status == "failed"),
        "provider": ({"provider": "openai"}, lambda view: view.provider == "openai"),
        "metadata": ({"metadata": ("team", "3")}, lambda view: (view.metadata or {}).get("team") == 3),
        "nested": ({"metadata": ("x", '[1,{"y":"z"}]')}, lambda view: "x" in (view.metadata or {})),
        "cost": ({"min_cost_nano_usd": least}, lambda view: (view.cost or 0) >= to_usd(least)),
        "latency": ({"min_latency_ms": middle}, lambda view: (view.latency_ms or 0) >= middle),
        "newer": ({"after": every[20].request_id}, lambda view: view.request_id > every[20].request_id),
        "older": ({"before": every[20].request_id}, lambda view: view.request_id < every[20].request_id),
        "error": ({"error_code": "X"}, lambda view: view.error_code == "X"),
    }
    for name, (wanted, matches) in filters.items():
        expected = [view for view in every if matches(view)]
        assert 0 < len(expected) < len(every), name
        assert await found_by(ledger, Search(scope=EVERYBODY, limit=10_000, **wanted)) == expected, name
        newer = await count_newer(ledger.pool, Search(scope=EVERYBODY, **wanted))
        assert newer == Newer(count=len(expected), is_more=False), name


async def requested(ledger: RealLedger, days: int, a_day: int) -> None:
    """Requests of so many days, with ids of their times; the last of them failed."""
    await ledger.owner.executemany(
        "INSERT INTO requests (request_id, project_id, key_id, at, operation, model, provider, status, attempts, "
        "prompt_tokens, completion_tokens, cached_prompt_tokens, assumed_nano_usd, saved_nano_usd, error_code) "
        "VALUES ($1, 'prj_1', 'key_1', $2, 'chat', 'm', 'p', $3, 1, 0, 0, 0, 0, 0, $4)",
        [
            (
                first_id("req", (at := FIRST_DAY + timedelta(days=day, seconds=number)) - timedelta(seconds=30)),
                at,
                "failed" if number == 0 else "completed",
                "X" if number == 0 else None,
            )
            for day in range(days)
            for number in range(a_day)
        ],
    )
    await ledger.owner.execute("ANALYZE requests")


@pytest.mark.parametrize(
    ("found", "most_skipped", "not_by_project"),
    [
        ({"until": FIRST_DAY + timedelta(days=2)}, 50, 0),
        ({"since": FIRST_DAY + timedelta(days=3), "until": FIRST_DAY + timedelta(days=4), "model": "none"}, 5 * 50, 0),
        ({"status": "failed"}, 0, LOOKED_AT_ONCE),
        ({"error_code": "X"}, 0, LOOKED_AT_ONCE),
        ({"after": first_id("req", FIRST_DAY + timedelta(days=60)), "model": "none"}, 0, 0),
    ],
)
async def test_a_search_reads_few_requests_beside_those_it_finds(
    ledger: RealLedger, found: dict[str, Any], most_skipped: int, not_by_project: int
) -> None:
    await requested(ledger, days=60, a_day=50)
    for scope, more_skipped in (
        (EVERYBODY, 0),
        (Scope(project_id="prj_1"), not_by_project),
        (Scope(project_id="prj_1", key_id="key_1"), not_by_project),
    ):
        seen = await found_by(ledger, Search(scope=scope, limit=10_000))
        wanted = Search(scope=scope, limit=50, **found)
        expected = [
            view
            for view in seen
            if found.get("status", view.status) == view.status
            and found.get("error_code", view.error_code) == view.error_code
            and found.get("model", view.model) == view.model
            and found.get("since", view.at) <= view.at
            and view.at < found.get("until", view.at + timedelta(1))
        ]
        assert await found_by(ledger, wanted) == expected[:50]
        text, arguments = compiled(statement_of(wanted))
        plan = "\n".join(row[0] for row in await ledger.owner.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) {text}", *arguments))
        skipped = sum(int(number) for number in re.findall(r"Removed by Filter: (\d+)", plan))
        assert skipped <= most_skipped + more_skipped, plan  # of 3,000


async def many(ledger: RealLedger, count: int, *, after: int = 0, metadata: str | None = None, every: int = 1) -> None:
    """Requests whose ids end with the numbers behind `after`; one in `every` has the metadata."""
    await ledger.owner.execute(
        "INSERT INTO requests (request_id, project_id, key_id, at, operation, model, provider, status, attempts, "
        "prompt_tokens, completion_tokens, cached_prompt_tokens, assumed_nano_usd, saved_nano_usd, metadata) "
        "SELECT $1 || lpad(n::text, 16, '0'), 'prj_1', 'key_1', $2, 'chat', 'm', 'p', 'completed', 1, 0, 0, 0, 0, 0, "
        "CASE WHEN n % $6 = 0 THEN $5::json END FROM generate_series($3::int + 1, $3::int + $4::int) n",
        first_id("req", FIRST_DAY)[:-16],
        FIRST_DAY,
        after,
        count,
        metadata,
        every,
    )


async def test_a_look_for_what_few_requests_have_ends_and_goes_on_from_there(ledger: RealLedger) -> None:
    at, rare = FIRST_DAY, 3
    await ledger.owner.execute(
        "INSERT INTO requests (request_id, project_id, key_id, at, operation, model, provider, status, attempts, "
        "prompt_tokens, completion_tokens, cached_prompt_tokens, assumed_nano_usd, saved_nano_usd, metadata) "
        "SELECT $1 || lpad(n::text, 16, '0'), 'prj_1', 'key_1', $2, 'chat', 'm', 'p', 'completed', 1, 0, 0, 0, 0, 0, "
        'CASE n WHEN $4 THEN \'{"team":"x"}\'::json END FROM generate_series(1, $3::int) n',
        first_id("req", at)[:-16],
        at,
        2 * LOOKED_AT_ONCE + rare,
        rare,
    )
    wanted = Search(scope=Scope(project_id="prj_1"), metadata=("team", "x"))
    assert len((await search(ledger.pool, wanted, look_s=60)).requests) == 1
    newer = await count_newer(ledger.pool, wanted)
    assert newer == Newer(count=0, is_more=True)
    pages = []
    while True:
        page = await search(ledger.pool, wanted, look_s=0)
        pages.append(len(page.requests))
        if page.next is None:
            break
        wanted = replace(wanted, before=page.next)
    assert pages == [0, 0, 1]


@pytest.mark.parametrize(
    ("scope", "filters"),
    [
        (EVERYBODY, {"session": "none"}),
        (Scope(key_id="key_1"), {"session": "none"}),
        (Scope(project_id="prj_1"), {"status": "failed"}),
        (Scope(project_id="prj_1"), {"error_code": "none"}),
        (Scope(key_id="key_1"), {"error_code": "none"}),
    ],
)
async def test_a_look_for_what_no_index_has_in_this_scope_is_bounded(
    ledger: RealLedger, scope: Scope, filters: dict[str, Any]
) -> None:
    await many(ledger, 2 * LOOKED_AT_ONCE)
    pages = 0
    wanted = Search(scope=scope, **filters)
    while (page := await search(ledger.pool, wanted, look_s=0)).next is not None:
        assert page.requests == []
        wanted = replace(wanted, before=page.next)
        pages += 1
    assert pages == 2


async def test_a_look_takes_larger_steps_as_it_goes_on(ledger: RealLedger) -> None:
    await many(ledger, 7 * LOOKED_AT_ONCE)
    statements = 0

    async def count() -> None:
        nonlocal statements
        statements += 1

    pool: Any = Growing(ledger.pool, count)
    found = await search(pool, Search(scope=EVERYBODY, model="none"), look_s=60)
    assert (found.requests, found.next) == ([], None)
    assert statements == 2 * 4  # 5,000, 10,000 and 20,000, and that there are no more


class Growing:
    """A pool, or a connection, in which more requests are there after each statement."""

    def __init__(self, inner: Any, grow: Callable[[], Awaitable[None]]) -> None:
        self.inner, self.grow = inner, grow

    async def fetch(self, *statement: Any) -> Any:
        rows = await self.inner.fetch(*statement)
        await self.grow()
        return rows

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self.inner.acquire() as connection:
            yield Growing(connection, self.grow)

    def transaction(self, **options: Any) -> Any:
        return self.inner.transaction(**options)


async def test_no_request_is_found_twice_while_others_come(ledger: RealLedger) -> None:
    await many(ledger, LOOKED_AT_ONCE + 10, metadata='{"team":"x"}', every=5)
    came = itertools.count(1)

    async def grow() -> None:
        for _ in range(20):
            await many(ledger, 1, after=LOOKED_AT_ONCE + 10 + next(came))

    pool: Any = Growing(ledger.pool, grow)
    found = await search(pool, Search(scope=EVERYBODY, metadata=("team", "x"), limit=10_000), look_s=60)
    ids = [view.request_id for view in found.requests]
    assert (len(ids), len(set(ids)), found.next) == (1_002, 1_002, None)


async def test_a_request_that_came_late_is_found_by_its_time(ledger: RealLedger) -> None:
    await requested(ledger, days=3, a_day=50)
    at = FIRST_DAY + timedelta(days=1, hours=12)
    late_id = first_id("req", at - timedelta(days=20))
    identity = make_identity(request_id=late_id, project_id="prj_1", key_id="key_1", asked_as="cheapest", model="m")
    failed = RequestFailed(**identity.event_fields(), code="X", message="", latency_ms=1)
    await ledger.log.append(
        Commit(stream=request_stream(late_id), expected_version=0, project_id="prj_1", at=at, events=(failed,))
    )
    await ledger.fold()
    since = at - timedelta(minutes=1)
    found = await found_by(ledger, Search(scope=EVERYBODY, since=since, until=since + timedelta(minutes=2)))
    assert [view.request_id for view in found] == [late_id]
    assert (found[0].model, found[0].served_model) == ("cheapest", "m")
    by_served = await found_by(ledger, Search(scope=EVERYBODY, served="m", limit=200))
    assert (len(by_served), by_served[-1].request_id) == (151, late_id)
    assert await found_by(ledger, Search(scope=EVERYBODY, served="cheapest")) == []


async def test_what_the_migration_fills_in_is_what_the_fold_would_have(ledger: RealLedger) -> None:
    await remember(ledger, 27, 200)
    late_id = first_id("req", FIRST_DAY - timedelta(days=2))
    for request_id, at in ((late_id, FIRST_DAY), (first_id("req", FIRST_DAY), FIRST_DAY + timedelta(minutes=59))):
        identity = make_identity(request_id=request_id, project_id="prj_1", key_id="key_1", asked_as="cheapest")
        failed = RequestFailed(**identity.event_fields(), code="X", message="", latency_ms=1)
        await ledger.log.append(
            Commit(stream=request_stream(request_id), expected_version=0, project_id="prj_1", at=at, events=(failed,))
        )
    await ledger.fold()
    folded = await ledger.pool.fetch("SELECT * FROM requests ORDER BY request_id")
    assert sum(row["served_model"] is not None for row in folded) == 2
    await ledger.owner.execute("ALTER TABLE requests DROP COLUMN served_model, DROP COLUMN is_late")
    await ledger.owner.execute("ALTER TYPE requests_row DROP ATTRIBUTE served_model, DROP ATTRIBUTE is_late")
    await ledger.owner.execute((MIGRATIONS / "0029_requests_served.sql").read_text())
    assert await ledger.owner.fetch("SELECT * FROM requests ORDER BY request_id") == folded


async def used(ledger: RealLedger, models: int, days: int) -> Window:
    """Usage of so many models on each of so many days: a day of model 1 costs 1 nano-dollar, of model 2 it costs 2."""
    await ledger.owner.execute(
        "INSERT INTO usage_rollups SELECT p.id, 'day', '2025-01-01T00:00Z'::timestamptz + d * interval '1 day', '', "
        "'chat', 'p', 'm' || m, 1, 0, 0, 0, 0, 0, m, 0, 0, 0, 0, 0, 0, 0, 0, 0 "
        "FROM (VALUES (''), ('prj_1')) AS p (id), generate_series(1, $1::int) m, generate_series(0, $2::int - 1) d",
        models,
        days,
    )
    await fill_in(ledger, "0027_usage_totals.sql")
    return Window(first=date(2025, 1, 1), last=date(2025, 1, 1) + timedelta(days=days - 1))


async def fill_in(ledger: RealLedger, *revisions: str) -> None:
    """Fill empty tables as these migrations do."""
    async with ledger.owner.acquire() as connection, connection.transaction():
        for name in revisions:
            text = (MIGRATIONS / name).read_text()
            await connection.execute(text[text.index("INSERT INTO projection_checkpoints") :])


async def test_a_chart_has_every_day_of_its_groups_however_many_lines_there_are(ledger: RealLedger) -> None:
    window = await used(ledger, models=9, days=200)
    for scope in (EVERYBODY, Scope(project_id="prj_1")):
        found = await usage_of_most(ledger.pool, scope, window, "model", "day", most=6)
        assert (found.values, found.is_all) == (["m9", "m8", "m7", "m6", "m5", "m4"], False)
        for value, lines in zip(found.values, found.lines, strict=True):
            assert len({line.group["day"] for line in lines}) == len(lines) == 200
            assert {line.cost for line in lines} == {to_usd(NanoUsd(int(value[1:])))}
    assert (await usage_of_most(ledger.pool, EVERYBODY, window, "model", "day", most=9)).is_all


async def test_the_totals_of_times_are_those_of_the_window(ledger: RealLedger) -> None:
    await remember(ledger, 25, 300)
    await ledger.fold()
    every_key = [
        (row["project_id"], row["key_id"])
        for row in await ledger.pool.fetch("SELECT DISTINCT project_id, key_id FROM usage_daily")
    ]
    scopes = [Scope(project_id=project_id, key_id=key_id) for project_id, key_id in every_key]
    for scope in (EVERYBODY, *(Scope(project_id=scope.project_id) for scope in scopes), *scopes):
        expected = await totals(ledger.pool, scope, WINDOW)
        assert expected.p95_latency_ms is not None
        for time in get_args(Time):
            over_time = await usage_over_time(ledger.pool, scope, WINDOW, time)
            assert over_time.totals == expected, (scope, time)
            assert sum(line.requests for line in over_time.lines) == expected.requests


async def test_a_week_has_what_its_days_in_the_window_have(ledger: RealLedger) -> None:
    await used_by_keys(ledger, keys=2, days=120)
    window = Window(first=date(2025, 1, 1), last=date(2025, 4, 10))  # from a Wednesday to a Thursday
    for scope in (EVERYBODY, Scope(project_id="prj_1"), Scope(project_id="prj_1", key_id="key_1")):
        days = (await usage_over_time(ledger.pool, scope, window, "day")).lines
        weeks = (await usage_over_time(ledger.pool, scope, window, "week")).lines
        in_weeks: Counter[str] = Counter()
        for line in days:
            in_weeks[f"{monday_of(date.fromisoformat(line.group['day']))}"] += line.requests
        assert {line.group["week"]: line.requests for line in weeks} == in_weeks
        assert [weeks[at].group["week"] for at in (0, 1, -1)] == ["2024-12-30", "2025-01-06", "2025-04-07"]
        assert [weeks[at].requests * 7 for at in (0, 1, -1)] == [weeks[1].requests * of_week for of_week in (5, 7, 4)]
    found = await usage_of_most(ledger.pool, EVERYBODY, window, "key", "week", most=2)
    assert found.values == ["key_2", "key_1"]
    assert [sum(line.cost for line in lines) for lines in found.lines] == [to_usd(NanoUsd(n * 200)) for n in (2, 1)]
    assert [len(lines) for lines in found.lines] == [15, 15]


async def test_a_chart_has_what_callers_do_not_say(ledger: RealLedger) -> None:
    for user in ("a", "a", "b"):
        await said(ledger, {"user": user})
    await said(ledger, {"other": "c"})
    await ledger.fold()
    found = await usage_of_most(ledger.pool, EVERYBODY, WINDOW, "metadata.user", "day", most=6)
    requests = {
        value: sum(line.requests for line in lines) for value, lines in zip(found.values, found.lines, strict=True)
    }
    assert requests == {"a": 2, "b": 1, None: 1}


async def test_a_report_by_time_leaves_the_oldest_out(ledger: RealLedger) -> None:
    window = await used(ledger, models=3, days=10)
    report = await usage_report(ledger.pool, EVERYBODY, window, ("day", "model"), most=6)
    told = [line.group["day"] for line in report.lines if not line.is_rest]
    assert told == ["2025-01-09"] * 3 + ["2025-01-10"] * 3
    assert report.lines_left_out == 24
    assert sum(line.cost for line in report.lines) == report.totals.cost
    last = Window(first=window.last, last=window.last)
    compared = await usage_report(ledger.pool, EVERYBODY, last, ("day", "model"))
    assert [line.previous.cost if line.previous else None for line in compared.lines] == [
        line.cost for line in compared.lines
    ]


@pytest.mark.parametrize("groups", [("key", "model"), ("model", "day"), ("metadata.team",), ("day", "metadata.x")])
async def test_what_a_report_leaves_out_is_summed_up(ledger: RealLedger, groups: tuple[str, ...]) -> None:
    await remember(ledger, 28, 300)
    await ledger.fold()
    for scope in await scopes_of(ledger):
        whole = await breakdown(ledger.pool, scope, WINDOW, groups, most=1_000)
        for most in (1, 3):
            found = await breakdown(ledger.pool, scope, WINDOW, groups, most=most)
            assert [line.values for line in found.lines] == [line.values for line in whole.lines][:most]
            assert (found.left_out > 0) == (len(whole.lines) > most)
            for name in KEPT:
                in_all = sum(line.sums[name] for line in [*whole.lines, *whole.rest])
                assert sum(line.sums[name] for line in [*found.lines, *found.rest]) == in_all


async def test_caps_have_what_is_spent_and_held(ledger: RealLedger) -> None:
    project = await ledger.new_project()
    key = await ledger.new_key(project, daily_budget_nano_usd=NanoUsd(1_000), monthly_budget_nano_usd=NanoUsd(0))
    other = await ledger.new_key(await ledger.new_project(), daily_budget_nano_usd=NanoUsd(5))
    found = await caps(ledger.pool, Scope(project_id=project), datetime.now(UTC))
    assert [(cap.id, cap.window, cap.limit, cap.used) for cap in found] == [
        (key, "monthly", Decimal(0), 1.0),
        (key, "daily", Decimal("0.000001"), 0.0),
    ]
    assert other in {cap.id for cap in await caps(ledger.pool, EVERYBODY, datetime.now(UTC))}


async def test_a_forecast_goes_on_as_the_last_days_went(ledger: RealLedger) -> None:
    await ledger.owner.execute(
        "INSERT INTO usage_rollups SELECT 'prj_1', p.period, at, '', 'chat', 'p', 'm', 1, 0, 0, 0, 0, 0, "
        "CASE p.period WHEN 'day' THEN 24 ELSE 1 END * 1000000, 0, 0, 0, 0, 0, 0, 0, 0, 0 "
        "FROM (VALUES ('hour'), ('day')) AS p (period) CROSS JOIN LATERAL generate_series("
        "'2026-03-01T00:00Z'::timestamptz, '2026-03-09T23:00Z'::timestamptz, "
        "CASE p.period WHEN 'day' THEN '1 day' ELSE '1 hour' END::interval) AS at"
    )
    await ledger.owner.execute(
        "INSERT INTO usage_rollups SELECT 'prj_1', 'day', '2026-03-10T00:00Z', '', 'chat', 'p', 'm', 1, 0, 0, 0, 0, 0, "
        "18000000, 0, 0, 0, 0, 0, 0, 0, 0, 0"
    )
    now = datetime(2026, 3, 10, 18, 30, tzinfo=UTC)
    found = await spends(ledger.pool, Scope(project_id="prj_1"), now)
    assert (found.today.spent, found.today.forecast) == (Decimal("0.018"), Decimal("0.0235"))
    assert found.month.spent == Decimal("0.234")
    assert found.month.forecast == Decimal("0.2395") + 21 * Decimal("0.024")
    empty = await spends(ledger.pool, Scope(project_id="prj_2"), now)
    assert (empty.today.spent, empty.today.forecast, empty.month.forecast) == (0, None, None)


PAST_SUMS = ", ".join(name for name in SUMS if name not in {"cache_write_tokens", "reasoning_tokens"})
"""The sums that a migration finds in the read models that there were."""
FILLED = (
    f"SELECT project_id, period, starts_at, key_id, operation, provider, model, {PAST_SUMS} FROM usage_rollups r "
    "WHERE (completed_requests, cached_requests, failed_requests, rejected_requests, cost_nano_usd, assumed_nano_usd) "
    "<> (0, 0, 0, 0, 0, 0)",
    "SELECT * FROM usage_daily WHERE (completed_requests, cached_requests, failed_requests, rejected_requests) "
    "<> (0, 0, 0, 0)",
    "SELECT * FROM usage_durations WHERE measure = 'answer'",
    "SELECT * FROM usage_errors",
    f"SELECT project_id, starts_at, {PAST_SUMS} FROM usage_totals",
    f"SELECT project_id, starts_at, key_id, {PAST_SUMS} FROM usage_months",
    "SELECT * FROM usage_total_durations WHERE measure = 'answer'",
    "SELECT a.project_id, a.name, a.day, v.value, a.key_id, completed_requests, cached_requests, failed_requests, "
    "cost_nano_usd, assumed_nano_usd, unpriced_requests FROM usage_attributes a "
    "JOIN usage_attribute_values v USING (project_id, name, day, number) WHERE "
    "(completed_requests, cached_requests, failed_requests, cost_nano_usd, assumed_nano_usd) <> (0, 0, 0, 0, 0)",
)


async def test_a_migration_fills_in_what_the_fold_would_have(ledger: RealLedger) -> None:
    await remember(ledger, 27, 300)
    await ledger.fold()
    folded = [sorted(map(str, await ledger.owner.fetch(query))) for query in FILLED]
    filled_in = [table for one in (Rollups(), Attributes(), Totals()) for table in one.tables]
    await ledger.owner.execute(f"TRUNCATE {', '.join(filled_in)}")
    await ledger.owner.execute("UPDATE usage_daily SET rejected_requests = 0")
    await ledger.owner.execute(
        "DELETE FROM projection_checkpoints WHERE projection IN ('rollups', 'attributes', 'totals')"
    )
    await fill_in(ledger, "0020_usage_rollups.sql", "0021_usage_attributes.sql", "0027_usage_totals.sql")
    filled = [sorted(map(str, await ledger.owner.fetch(query))) for query in FILLED]
    assert [len(rows) > 10 for rows in folded] == [True] * len(FILLED)
    assert filled == folded
    await ledger.fold()  # and goes on from there
    assert [sorted(map(str, await ledger.owner.fetch(query))) for query in FILLED] == folded


async def test_a_migration_refuses_read_models_that_have_not_come_equally_far(ledger: RealLedger) -> None:
    await remember(ledger, 29, 20)
    await ledger.fold()
    await ledger.owner.execute("UPDATE projection_checkpoints SET position = position - 1 WHERE projection = 'usage'")
    text = (MIGRATIONS / "0020_usage_rollups.sql").read_text()
    with pytest.raises(asyncpg.RaiseError, match="equally far"):
        await ledger.owner.execute(text)
