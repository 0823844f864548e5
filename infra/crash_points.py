"""Points on a request's way at which a process kills itself, so that tests see what a crash there leaves behind.

They are off, each a call of an empty function, unless the environment of the process has `GATEWAY_TEST_CRASH_POINT`: no
setting, flag or `.env` switches them on. The variable names a file. As long as there is such a file, it arms one point
once: its line is `POINT`, or `POINT NTH DELAY_S` for the nth time that a process is there and a death that is so much
later. The process that gets there renames the file, so that no other one dies of it, and kills itself (SIGKILL).
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

VARIABLE: Final = "GATEWAY_TEST_CRASH_POINT"
REACHED_SUFFIX: Final = ".reached"
POINTS: Final[Mapping[str, str]] = {
    "api.before_admit": "nothing is known of the request",
    "api.after_admit": "the hold is in the ledger, the job in no queue",
    "api.after_publish": "the job is in the queue, nobody waits for it",
    "api.after_answer": "the answer is in the log, the caller has none of it",
    "api.after_part": "the caller has a part of the stream",
    "api.after_hit": "the cache hit is in the log, the caller has no answer",
    "api.after_accept": "the job is in the log, its caller is not told",
    "api.after_start": "the job has a request, which is admitted and in no queue",
    "api.after_end": "the job's end is in the log, its lease is not given back",
    "api.after_withdrawal": "the hold was dropped and the end appended, in one step, before a worker had the job",
    "worker.delivered": "the job has left the queue, and is not claimed",
    "worker.after_claim": "the attempt is claimed, the provider was not called",
    "worker.before_call": "the provider is about to be called",
    "worker.after_call": "the provider has answered, the log knows nothing of it",
    "worker.after_body": "the answer's body was sent to the API, the log knows nothing of it",
    "worker.after_part": "a part of the stream was sent to the API",
    "worker.after_stream": "the provider's stream has ended, the log knows nothing of it",
    "worker.after_append": "the end is in the log, nobody was told",
    "worker.after_commit": "the API was told, the job is not acknowledged",
    "worker.after_failure": "the attempt's failure is in the log, the next attempt is not admitted",
    "worker.after_next": "the next attempt is admitted and claimed, the provider was not called",
    "worker.after_lost": "an earlier delivery's attempt is written off, the next one is not admitted",
    "projector.before_fold": "events were read, and not folded",
    "projector.during_fold": "the rows are written in a transaction that is not committed",
    "projector.after_fold": "the rows are committed",
    "projector.during_sweep": "the hold of an overdue attempt is about to be dropped, or assumed as spent",
    "projector.after_sweep": "the end of an overdue request is in the log, nobody was told",
    "projector.after_alert": "the alert is in the log, no message of it is in the queue",
    "projector.after_head": "the signed head is in the database, no copy of it is outside",
}
"""What is so at each point, by its name."""

_DEFAULTS: Final = ("1", "0")
"""What the line may leave out: the first time, no delay."""

log = structlog.get_logger(__name__)


class CrashPoints:
    """The points of one process, switched on."""

    def __init__(self, file: Path, die: Callable[[], None]) -> None:
        """`die` ends the process."""
        self._file = file
        self._die = die
        self._armed_at_ns = 0
        self._times = 0
        """How often this process has reached the armed point since it was armed."""

    def reach(self, point: str) -> None:
        """Die if the file says so."""
        assert point in POINTS, f"{point} is no crash point"
        try:
            line, armed_at_ns = self._file.read_text(), self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return
        armed, nth, delay = (*line.split(), *_DEFAULTS[len(line.split()) - 1 :])
        if armed != point:
            return
        if self._armed_at_ns != armed_at_ns:
            self._armed_at_ns, self._times = armed_at_ns, 0
        self._times += 1
        if self._times < int(nth):
            return
        try:
            self._file.rename(self._file.with_name(self._file.name + REACHED_SUFFIX))
        except FileNotFoundError:  # another process was first
            return
        delay_s = float(delay)
        log.warning("crash_point_reached", point=point, delay_s=delay_s)
        if delay_s:
            threading.Timer(delay_s, self._die).start()
        else:
            self._die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _pass(_point: str, /) -> None:
    """Do nothing: the points are off."""


def switch_of(environ: Mapping[str, str]) -> Callable[[str], None]:
    """Return the function that a process calls at its points: one that does nothing if they are off."""
    file = environ.get(VARIABLE)
    return CrashPoints(Path(file), _die).reach if file else _pass


reach: Final = switch_of(os.environ)
"""Mark a point, by a name of `POINTS`."""
