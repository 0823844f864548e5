"""Prints the tables of `docs/scaling.md`: what so many requests a second need, from what was measured.

Arithmetic alone: it starts nothing. Each figure stands here with where it was measured; a machine's own figures can be
given instead (`python -m bench.whole_path`, `python -m bench.log_bytes`, `python -m bench.appends` print them). What is
not measured, such as the network between machines, is not in the tables.
"""

import argparse
import math
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

RATES = (100, 1_000, 10_000)
"""Requests a second, all day."""
BUSY = 0.6
"""The part of a core that is planned to be used: the rest is for bursts, and for the death of one of several."""
SECONDS_A_DAY = 86_400
GIB = 1024**3


Parts = tuple[int, int, int, int, int]
"""Of the API, the worker, the projector, PostgreSQL and NATS."""


class Figures(Struct, frozen=True, kw_only=True):
    """What a request costs. CPU in microseconds, of one core of the machine on which it was measured."""

    hit_ratio: float = 0.0
    """The part of the requests that the cache answers."""
    miss_us: tuple[tuple[int, Parts], ...] = (
        (0, (1_252, 1_217, 293, 1_693, 762)),
        (794, (613, 555, 100, 513, 165)),
        (1_208, (473, 403, 80, 302, 85)),
    )
    """By the requests a second at which it was measured: docs/performance.md, "The whole path", a miss. Load makes
    batches, and batches make requests cheap. The first row was measured at 201, and stands for what is below.
    """
    hit_us: tuple[tuple[int, Parts], ...] = (
        (0, (747, 0, 120, 775, 35)),
        (2_357, (365, 0, 45, 152, 13)),
        (3_273, (285, 0, 45, 83, 7)),
    )
    """A hit, from the same table."""
    log_bytes_miss: int = 1_933
    """For ever, with indexes: `python -m bench.log_bytes`, a miss whose answer the cache keeps."""
    log_bytes_hit: int = 635
    read_model_bytes_miss: int = 932
    read_model_bytes_hit: int = 504
    wal_bytes_miss: int = 5_365
    """To a standby and to an archive."""
    wal_bytes_hit: int = 1_537
    commits_per_s: int = 3_894
    """That one log appended with four writers: `python -m bench.appends`, on two cores at a load of 22."""
    answer_s: float = 2.0
    """How long a provider takes on average: an assumption, not a measurement."""
    worker_slots: int = 512
    """GATEWAY_WORKER_SLOTS, its default."""


MEASURED = Figures()


class Need(Struct, frozen=True, kw_only=True):
    """What a rate needs."""

    rate: int
    cores: tuple[float, float, float, float, float]
    """Busy cores of API, worker, projector, PostgreSQL and NATS."""
    processes: tuple[int, int]
    """API processes and workers: each uses one core."""
    workers_for_slots: int
    """Workers that the requests under way at a time need, by the time that providers take."""
    commits_per_s: float
    log_gib_a_day: float
    read_models_gib_a_day: float
    wal_mib_per_s: float
    databases: int
    """Over which projects would have to be spread: each has one log and one projector that leads."""


def need_of(rate: int, figures: Figures) -> Need:
    """Compute what a rate needs."""
    hits = figures.hit_ratio

    def mean(miss: float, hit: float) -> float:
        return miss * (1 - hits) + hit * hits

    misses, hit_parts = _at(figures.miss_us, rate), _at(figures.hit_us, rate)
    busy = [mean(miss, hit) * rate / 1e6 for miss, hit in zip(misses, hit_parts, strict=True)]
    api, worker, projector, postgresql, nats = busy
    under_way = rate * (1 - hits) * figures.answer_s
    return Need(
        rate=rate,
        cores=(api, worker, projector, postgresql, nats),
        processes=(max(2, math.ceil(api / BUSY)), max(2, math.ceil(worker / BUSY))),
        workers_for_slots=max(2, math.ceil(under_way / (figures.worker_slots * BUSY))),
        commits_per_s=float(rate),
        log_gib_a_day=mean(figures.log_bytes_miss, figures.log_bytes_hit) * rate * SECONDS_A_DAY / GIB,
        read_models_gib_a_day=mean(figures.read_model_bytes_miss, figures.read_model_bytes_hit)
        * rate
        * SECONDS_A_DAY
        / GIB,
        wal_mib_per_s=mean(figures.wal_bytes_miss, figures.wal_bytes_hit) * rate / 1024**2,
        databases=max(math.ceil(rate / (figures.commits_per_s * BUSY)), math.ceil(projector / BUSY)),
    )


def _at(measured: Sequence[tuple[int, Parts]], rate: int) -> Parts:
    """The figures that were measured at the nearest rate that is no higher."""
    return next(parts for least, parts in reversed(measured) if rate >= least)


def table(needs: Sequence[Need]) -> str:
    """Write the table, a row for each need of a part."""
    rows: list[tuple[str, list[str]]] = [
        ("API: busy cores; processes", [f"{one.cores[0]:.2f}; {one.processes[0]}" for one in needs]),
        ("workers: busy cores; processes", [f"{one.cores[1]:.2f}; {one.processes[1]}" for one in needs]),
        ("workers for the calls under way at a time", [f"{one.workers_for_slots}" for one in needs]),
        ("projector that leads: busy cores", [f"{one.cores[2]:.2f}" for one in needs]),
        ("PostgreSQL: busy cores", [f"{one.cores[3]:.2f}" for one in needs]),
        ("NATS: busy cores", [f"{one.cores[4]:.2f}" for one in needs]),
        ("commits to the log a second", [f"{one.commits_per_s:,.0f}" for one in needs]),
        ("databases, by the log and the projector that were measured", [f"{one.databases}" for one in needs]),
        ("log, GiB a day", [f"{one.log_gib_a_day:,.1f}" for one in needs]),
        ("read models, GiB a day", [f"{one.read_models_gib_a_day:,.1f}" for one in needs]),
        ("to a standby, MiB a second", [f"{one.wal_mib_per_s:,.1f}" for one in needs]),
    ]
    head = "| what | " + " | ".join(f"{one.rate:,}/s" for one in needs) + " |"
    return "\n".join(
        [head, "|---" * (len(needs) + 1) + "|", *(f"| {name} | {' | '.join(row)} |" for name, row in rows)]
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=float, default=0.0, help="the part that the cache answers, 0 to 1 (default 0)")
    parser.add_argument("--answer-s", type=float, default=MEASURED.answer_s, help="seconds that a provider takes")
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES), help="requests a second")
    arguments = parser.parse_args()
    figures = replace(MEASURED, hit_ratio=arguments.hits, answer_s=arguments.answer_s)
    print(table([need_of(rate, figures) for rate in arguments.rates]))


if __name__ == "__main__":
    main()
