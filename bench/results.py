"""The results of a run: medians of rounds, ratios, tables, comparison with a stored run, JSON.

Nothing here measures.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

OURS = "gateway"
OTHER_CHECKOUT = "other checkout"
FORK_SERVER = "fork-server"
"""The group of our process that forks the others and has no part in a request."""
BARE = "bare handler"
PORTKEY = "Portkey"
US_PER_S = 1e6


class Round(Struct, frozen=True, kw_only=True):
    """One measurement of a row."""

    cpu_us: dict[str, float]
    """CPU microseconds per request, by group of processes."""
    requests_per_s: float
    p50_ms: float
    """Of a stream: to its first byte."""
    p99_ms: float
    straight_p50_ms: float | None = None
    """Of the same load sent directly to the provider; None if it was not."""
    failures: int = 0
    bare_us: float | None = None
    """CPU microseconds per request of the bare handler, the mean of just before and just after; None: not measured."""

    @property
    def total_us(self) -> float:
        """CPU microseconds per request, of all processes."""
        return sum(self.cpu_us.values())


class LoadRow(Struct, frozen=True, kw_only=True):
    """A row of load: what it costs a request, as the rounds have measured it."""

    name: str
    connections: int
    rounds: list[Round]

    @property
    def key(self) -> str:
        """By what the row is found in another run."""
        return f"{self.name}, {self.connections}"

    @property
    def middle(self) -> Round:
        """The round whose total is the median; of an even number, the lower one of the two in the middle."""
        return sorted(self.rounds, key=lambda one: one.total_us)[(len(self.rounds) - 1) // 2]

    @property
    def span_us(self) -> tuple[float, float]:
        """The lowest and the highest total."""
        totals = [one.total_us for one in self.rounds]
        return min(totals), max(totals)

    def in_bare_handlers(self, bare_us: float) -> float:
        """Return the median of the totals, each in the bare handlers around it, or of `bare_us`: the median round may
        have met a slower machine than the bare handler's.
        """
        return statistics.median(one.total_us / (one.bare_us or bare_us) for one in self.rounds)

    @property
    def p50_ms(self) -> float:
        """The median of the rounds' medians."""
        return statistics.median(one.p50_ms for one in self.rounds)

    @property
    def added_p50_ms(self) -> float | None:
        """What the system adds to the median latency; None if it was not measured."""
        added = [one.p50_ms - one.straight_p50_ms for one in self.rounds if one.straight_p50_ms is not None]
        return statistics.median(added) if added else None

    @property
    def failures(self) -> int:
        """How many requests failed, of all rounds."""
        return sum(one.failures for one in self.rounds)


class SystemResult(Struct, frozen=True, kw_only=True):
    """What was measured of one system."""

    name: str
    switched_on: str
    rows: list[LoadRow]
    servers: tuple[str, ...] = ()
    """The groups that are servers of other makers."""
    memory_mb: dict[str, float] = {}
    """After the load, by group."""
    first_requests_ms: list[float] = []
    """Of each start: how long the first request takes once the system says that it is ready."""
    restarts_s: list[float] = []
    """Of each restart: from the command to the first answer."""

    def row(self, key: str) -> LoadRow | None:
        """Return a row; None if it was not measured."""
        return next((row for row in self.rows if row.key == key), None)

    def memory_of(self, *, servers: bool) -> float:
        """Return the memory in MB of the servers, or of all other processes."""
        return sum(mb for group, mb in self.memory_mb.items() if (group in self.servers) == servers)

    def single_figures(self) -> dict[str, tuple[float, str]]:
        """Return what is not a cost of a request: values and their units, by name."""
        figures: dict[str, tuple[float, str]] = {}
        if self.first_requests_ms:
            figures["first request after start"] = (statistics.median(self.first_requests_ms), "ms")
        if self.memory_mb:
            figures["memory of own processes"] = (self.memory_of(servers=False), "MB")
        if self.memory_of(servers=True):
            figures["memory of servers"] = (self.memory_of(servers=True), "MB")
        alone = next((row for row in self.rows if row.connections == 1), None)
        if alone is not None:
            figures["p50 at one connection"] = (alone.p50_ms, "ms")
        for row in self.rows:
            if row.added_p50_ms is not None:
                figures[f"p50 added, {row.key}"] = (row.added_p50_ms, "ms")
        if self.restarts_s:
            figures["restart to the first answer"] = (statistics.median(self.restarts_s), "s")
        return figures


class Run(Struct, frozen=True, kw_only=True):
    """A run."""

    began: str
    machine: str
    load: tuple[float, float]
    """The machine's load over a minute when the run began, and when it ended, the run itself included."""
    systems: list[SystemResult]

    def system(self, name: str) -> SystemResult | None:
        """Return what was measured of a system; None if it was not."""
        return next((one for one in self.systems if one.name == name), None)

    def bare_us(self) -> float:
        """Return what the bare handler takes for a request.

        Raises:
            ValueError: the run has no bare handler.

        """
        bare = self.system(BARE)
        if bare is None:
            raise ValueError("the run has no bare handler")
        return bare.rows[0].middle.total_us


def ratio(value: float, unit: float | None) -> float | None:
    """Return how many times `unit` a value is; None if there is no such unit."""
    return value / unit if unit else None


def told(value: float | None) -> str:
    """Return a ratio as a table has it."""
    return "–" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def to_peer(run: Run, key: str, peers: Run | None, peer: str = PORTKEY) -> float | None:
    """Return how many times the peer's cost our cost of a row is; None if either was not measured, or refused requests.

    Both are counted in the bare handlers of their own run.
    """
    ours, where = run.system(OURS), run if run.system(peer) is not None else peers
    theirs = where.system(peer) if where is not None else None
    row, other = ours and ours.row(key), theirs and theirs.row(key)
    if row is None or other is None or where is None or row.failures or other.failures:
        return None
    return ratio(row.in_bare_handlers(run.bare_us()), other.in_bare_handlers(where.bare_us()))


def load_table(run: Run, peers: Run | None = None) -> str:
    """Return the rows of load of every system as a table, in Markdown."""
    bare_us = run.bare_us()
    lines = [
        "| system | row | requests/s | p50 / p99 ms | CPU µs per request (by process) | lowest – highest "
        f"| bare handlers | to {PORTKEY} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for system in run.systems:
        for row in system.rows:
            middle, (low, high) = row.middle, row.span_us
            parts = [f"{group} {us:,.0f}" for group, us in middle.cpu_us.items() if group != FORK_SERVER]
            split = f" ({' + '.join(parts)})" if len(parts) > 1 else ""
            peer = to_peer(run, row.key, peers) if system.name == OURS else None
            failed = f" ({row.failures} FAILED)" if row.failures else ""
            lines.append(
                f"| {system.name} | {row.key} | {middle.requests_per_s:,.0f} "
                f"| {middle.p50_ms:.1f} / {middle.p99_ms:.1f} | **{middle.total_us:,.0f}**{split}{failed} "
                f"| {low:,.0f} – {high:,.0f} | {told(row.in_bare_handlers(bare_us))} | {told(peer)} |"
            )
    return "\n".join(lines)


def figure_table(run: Run) -> str:
    """Return what is not a cost of a request as a table with a column for each system, in Markdown."""
    columns = [system for system in run.systems if system.single_figures()]
    names = dict.fromkeys(name for system in columns for name in system.single_figures())
    lines = [f"| figure | {' | '.join(system.name for system in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = [amount(system.single_figures().get(name)) for system in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def amount(figure: tuple[float, str] | None) -> str:
    """Return a figure with its unit, to three digits or so."""
    if figure is None:
        return "–"
    value, unit = figure
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}" if value >= 10 else f"{value:.2f} {unit}"


def comparison_table(before: Run, now: Run) -> str:
    """Return each row of ours in both runs, and the ratio of now to before, in Markdown.

    The last column counts both in the bare handlers of their own run, so that it holds if the machine was slower.
    """
    lines = ["| row | before | now | now ÷ before | in bare handlers |", "|---|---|---|---|---|"]
    old, new = before.system(OURS), now.system(OURS)
    if old is None or new is None:
        return "\n".join(lines)
    for row in new.rows:
        was = old.row(row.key)
        if was is not None:
            times = row.middle.total_us / was.middle.total_us
            in_bare = row.in_bare_handlers(now.bare_us()) / was.in_bare_handlers(before.bare_us())
            lines.append(
                f"| {row.key} | {was.middle.total_us:,.0f} µs | {row.middle.total_us:,.0f} µs | {told(times)} "
                f"| {told(in_bare)} |"
            )
    return "\n".join([*lines, *(f"{line} – |" for line in _figures_beside(old, new))])


def _figures_beside(before: SystemResult, now: SystemResult) -> list[str]:
    """Return lines of a table: the single figures of both, with the ratio of now to before."""
    figures = before.single_figures()
    return [
        f"| {name} | {amount(figures[name])} | {amount(figure)} | {told(ratio(figure[0], figures[name][0]))} |"
        for name, figure in now.single_figures().items()
        if name in figures
    ]


def beside_table(run: Run) -> str:
    """Return each row and figure of ours beside those of the other checkout in the same run, in Markdown.

    The ratio of a row is the median of the rounds' ratios: both met about the same machine in a round.
    """
    lines = [f"| row | {OTHER_CHECKOUT} | now | now ÷ {OTHER_CHECKOUT} |", "|---|---|---|---|"]
    other, ours = run.system(OTHER_CHECKOUT), run.system(OURS)
    if other is None or ours is None:
        return "\n".join(lines)
    for row in ours.rows:
        was = other.row(row.key)
        if was is not None:
            times = statistics.median(
                one.total_us / before.total_us for one, before in zip(row.rounds, was.rounds, strict=True)
            )
            lines.append(
                f"| {row.key} | {was.middle.total_us:,.0f} µs | {row.middle.total_us:,.0f} µs | {told(times)} |"
            )
    return "\n".join([*lines, *_figures_beside(other, ours)])


def switched_on(systems: Sequence[SystemResult]) -> str:
    """Return what each system has switched on, as a list in Markdown."""
    return "\n".join(f"- {system.name}: {system.switched_on}" for system in systems)


def per_request_us(before: Mapping[str, float], after: Mapping[str, float], requests: int) -> dict[str, float]:
    """Return CPU microseconds per request, by group, from CPU seconds before and after."""
    return {group: (after[group] - before[group]) / requests * US_PER_S for group in after}


def read(path: Path) -> Run:
    """Read a stored run.

    Raises:
        OSError, msgspec.DecodeError: there is none.

    """
    return msgspec.json.decode(path.read_bytes(), type=Run)


def write(run: Run, path: Path) -> None:
    """Store a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run)) + b"\n")
