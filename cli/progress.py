"""Shows how far a long command is, on standard error: a bar on a terminal, a few lines elsewhere.

What a command prints for programs is on standard output, and stays as it is.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infra.progress import Progress, untold

FIRST_LINE_S = 5.0
"""What takes less is done without a line."""
LINES = 10
"""The most lines of one piece of work."""


@contextmanager
def progress(what: str, unit: str = "events", *, shares_terminal: bool = False) -> Iterator[Progress]:
    """Show the progress of what runs in the block: `what`, and how many `unit` are done, a second and to come.

    `shares_terminal`: the command writes its result meanwhile. On a terminal, that itself shows the progress.
    """
    if shares_terminal and sys.stdout.isatty():
        yield untold
    elif sys.stderr.isatty():
        from cli.progress_bar import bar  # noqa: PLC0415 - see there

        with bar(what, unit) as told:
            yield told
    else:
        yield PlainLines(what, unit, lambda line: print(line, file=sys.stderr, flush=True))


class PlainLines:
    """A line for each tenth of the work, from the fifth second on and never more often than that."""

    def __init__(
        self, what: str, unit: str, write: Callable[[str], None], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`now_s` gives the monotonic clock's time; the work begins now."""
        self._what = what
        self._unit = unit
        self._write = write
        self._now_s = now_s
        self._began_s = self._wrote_s = now_s()
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        """Write a line if one is due."""
        now_s = self._now_s()
        percent = 100 * done // total if total > 0 else 100
        tenth = LINES * percent // 100
        if tenth <= self._tenth or now_s - self._wrote_s < FIRST_LINE_S:
            return
        self._tenth, self._wrote_s = tenth, now_s
        rate = done / (now_s - self._began_s)
        left = f", {(total - done) / rate:.0f} s left" if done < total else ""
        self._write(f"{self._what}: {percent} % ({done:,} of {total:,} {self._unit}, {rate:,.0f}/s{left})")
