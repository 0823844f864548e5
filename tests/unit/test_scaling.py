"""The figures of docs/scaling.md are those that the arithmetic gives."""

from msgspec.structs import replace

from bench.scaling import MEASURED, RATES, need_of, table
from deploy.requirements import ROOT

PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_the_page_has_the_tables_that_are_computed() -> None:
    assert table([need_of(rate, MEASURED) for rate in RATES]) in PAGE
    slower = replace(MEASURED, hit_ratio=0.3, answer_s=5.0)
    assert table([need_of(rate, slower) for rate in RATES]) in PAGE


def test_the_measured_figures_stand_in_the_pages_that_they_are_from() -> None:
    performance = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for measured in (MEASURED.miss_us, MEASURED.hit_us):
        for _, parts in measured:
            assert f"({' + '.join(map(str, parts))})" in performance
    for figure in (MEASURED.log_bytes_miss, MEASURED.wal_bytes_miss, MEASURED.wal_bytes_hit, MEASURED.commits_per_s):
        assert f"| {figure:,} |" in PAGE


def test_twice_the_requests_need_no_less_of_anything() -> None:
    once, twice = need_of(2_000, MEASURED), need_of(4_000, MEASURED)
    assert twice.log_gib_a_day == 2 * once.log_gib_a_day
    assert all(more >= less for more, less in zip(twice.cores, once.cores, strict=True))
    assert twice.databases >= once.databases
