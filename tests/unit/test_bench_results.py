"""The arithmetic of `make bench`: medians, ratios, tables and comparison."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.results import (
    BARE,
    OTHER_CHECKOUT,
    OURS,
    PORTKEY,
    LoadRow,
    Round,
    Run,
    SystemResult,
    beside_table,
    comparison_table,
    figure_table,
    load_table,
    per_request_us,
    ratio,
    read,
    to_peer,
    told,
    write,
)


def a_round(us: float, **parts: float) -> Round:
    return Round(cpu_us=parts or {"process": us}, requests_per_s=1000, p50_ms=us / 100, p99_ms=us / 10)


def a_row(*totals: float, name: str = "miss", connections: int = 16) -> LoadRow:
    return LoadRow(name=name, connections=connections, rounds=[a_round(total) for total in totals])


def a_system(name: str, *rows: LoadRow) -> SystemResult:
    return SystemResult(name=name, switched_on="everything", rows=list(rows))


def a_run(*systems: SystemResult) -> Run:
    return Run(began="2026-11-26 11:00 UTC", machine="2 cores", load=(1.0, 2.0), systems=list(systems))


RUN = a_run(a_system(BARE, a_row(100)), a_system(OURS, a_row(1_000, 3_000, 1_200)), a_system(PORTKEY, a_row(800)))


def test_the_round_in_the_middle_is_told_and_the_span_of_all() -> None:
    row = a_row(3_000, 1_000, 1_200)
    assert row.middle.total_us == 1_200
    assert row.span_us == (1_000, 3_000)
    assert a_row(5, 9, 1, 7).middle.total_us == 5


def test_each_round_is_counted_in_the_bare_handlers_of_its_moment() -> None:
    rounds = [replace(a_round(us), bare_us=bare) for us, bare in ((1_000, 100), (3_000, 300), (1_400, 100))]
    assert LoadRow(name="miss", connections=16, rounds=rounds).in_bare_handlers(1) == 10
    assert a_row(1_000, 3_000, 1_200).in_bare_handlers(100) == 12


def test_a_cost_is_the_sum_over_all_processes() -> None:
    assert a_round(0, api=464, worker=387, postgresql=315).total_us == 1_166


def test_cpu_seconds_become_microseconds_of_a_request() -> None:
    assert per_request_us({"api": 1.0, "nats": 0.5}, {"api": 3.0, "nats": 0.5}, 1_000) == {"api": 2_000, "nats": 0}


def test_a_ratio_to_nothing_is_told_as_none() -> None:
    assert ratio(5, None) is None
    assert ratio(5, 0) is None
    assert told(None) == "–"
    assert (told(1.406), told(15.08)) == ("1.41", "15.1")


def test_a_peer_of_the_same_run_is_compared_directly() -> None:
    assert to_peer(RUN, "miss, 16", None) == pytest.approx(1_200 / 800)
    assert to_peer(RUN, "miss, 64", None) is None


def test_a_peer_of_another_run_is_compared_in_bare_handlers() -> None:
    ours = a_run(a_system(BARE, a_row(200)), a_system(OURS, a_row(1_200)))
    assert to_peer(ours, "miss, 16", RUN) == pytest.approx((1_200 / 200) / (800 / 100))
    assert to_peer(ours, "miss, 16", None) is None


def test_a_row_whose_requests_were_refused_is_compared_with_nothing() -> None:
    refusing = LoadRow(name="miss", connections=16, rounds=[replace(a_round(800), failures=1)])
    assert to_peer(a_run(*RUN.systems[:2], a_system(PORTKEY, refusing)), "miss, 16", None) is None


def test_a_run_without_a_bare_handler_has_no_unit() -> None:
    with pytest.raises(ValueError, match="bare handler"):
        a_run(a_system(OURS, a_row(1))).bare_us()


def test_the_table_has_costs_by_process_spans_ratios_and_failures() -> None:
    row = LoadRow(
        name="miss",
        connections=64,
        rounds=[replace(a_round(0, api=500, worker=400), p50_ms=5.0, p99_ms=9.0, failures=3)],
    )
    table = load_table(a_run(a_system(BARE, a_row(100)), a_system(OURS, row)))
    assert (
        "| gateway | miss, 64 | 1,000 | 5.0 / 9.0 | **900** (api 500 + worker 400) (3 FAILED) | 900 – 900 | 9.00 | – |"
        in table.splitlines()
    )
    assert "| gateway | miss, 16 | 1,000 | 12.0 / 120.0 | **1,200** | 1,000 – 3,000 | 12.0 | 1.50 |" in load_table(RUN)


def test_single_figures_stand_in_a_column_for_each_system() -> None:
    compared = replace(a_round(6_000), straight_p50_ms=51.0)
    ours = SystemResult(
        name=OURS,
        switched_on="",
        rows=[a_row(490, connections=1), LoadRow(name="slow", connections=4, rounds=[compared])],
        servers=("postgresql",),
        memory_mb={"api": 150, "worker": 130, "postgresql": 249},
        first_requests_ms=[1_800, 40, 50],
        restarts_s=[3.1, 4.8, 3.3],
    )
    peer = SystemResult(name=PORTKEY, switched_on="", rows=[], memory_mb={"process": 80})
    table = figure_table(a_run(a_system(BARE, a_row(100)), ours, peer))
    for line in (
        "| figure | gateway | Portkey |",
        "| first request after start | 50.0 ms | – |",
        "| memory of own processes | 280 MB | 80.0 MB |",
        "| memory of servers | 249 MB | – |",
        "| p50 at one connection | 4.90 ms | – |",
        "| p50 added, slow, 4 | 9.00 ms | – |",
        "| restart to the first answer | 3.30 s | – |",
    ):
        assert line in table.splitlines()


def test_two_runs_are_compared_row_by_row_and_in_their_own_bare_handlers() -> None:
    faster = a_run(
        a_system(BARE, a_row(50)), replace(a_system(OURS, a_row(300), a_row(9, name="new")), restarts_s=[1.0])
    )
    before = a_run(a_system(BARE, a_row(100)), replace(a_system(OURS, a_row(1_200)), restarts_s=[4.0]))
    assert comparison_table(before, faster).splitlines()[2:] == [
        "| miss, 16 | 1,200 µs | 300 µs | 0.25 | 0.50 |",
        "| restart to the first answer | 4.00 s | 1.00 s | 0.25 | – |",
    ]


def test_another_checkout_of_the_same_run_is_compared_round_by_round() -> None:
    other = replace(a_system(OTHER_CHECKOUT, a_row(1_000, 4_000, 2_000), a_row(9, name="gone")), restarts_s=[4.0])
    ours = replace(a_system(OURS, a_row(900, 2_000, 1_400), a_row(9, name="new")), restarts_s=[3.0])
    assert beside_table(a_run(ours, other)).splitlines()[2:] == [
        "| miss, 16 | 2,000 µs | 1,400 µs | 0.70 |",
        "| restart to the first answer | 4.00 s | 3.00 s | 0.75 |",
    ]
    assert beside_table(RUN).splitlines()[2:] == []


def test_a_stored_run_is_read_as_it_was(tmp_path: Path) -> None:
    write(RUN, tmp_path / "kept" / "run.json")
    assert read(tmp_path / "kept" / "run.json") == RUN
