"""Child processes that end when their parent dies. They get a signal first, and are killed only after a timeout.

They inherit nothing of the environment but what every program needs: the operator's has the providers' keys.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

KILL_WAIT_S = 5.0
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
"""Looked up before any fork. It tells of no error here: a kernel that lacks an option does without."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
PRIVATE_UMASK = 0o077

SYSTEM_VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR", "LD_LIBRARY_PATH"}
)
"""What a program may need to run at all. With the variables of the locale, this is all that a server inherits."""


def clean_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return of an environment (by default, this process's) what a server may have."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name in SYSTEM_VARIABLES or name.startswith("LC_")}


def start_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    user: int | None = None,
    group: int | None = None,
    umask: int = -1,
    cwd: Path | None = None,
    output: IO[Any] | int | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGTERM,
) -> "subprocess.Popen[bytes]":
    """Start a process in its own process group, so that Ctrl-C on the terminal reaches only the parent.

    Without `env` it gets `clean_environment`. With another `group` it keeps none of this process's groups.
    On Linux, the kernel sends it `death_signal` if the parent dies without stopping it.
    """
    return subprocess.Popen(  # noqa: S603 - our own binaries, with our own arguments
        list(argv),
        env=dict(env) if env is not None else clean_environment(),
        user=user,
        group=group,
        extra_groups=[] if group is not None else None,
        umask=umask,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        pass_fds=tuple(pass_fds),
        process_group=0,
        preexec_fn=partial(die_with_parent, death_signal) if _prctl else None,  # noqa: PLW1509 - one call of prctl
    )


def stop_child(process: "subprocess.Popen[bytes]", how: signal.Signals, *, timeout_s: float) -> None:
    """Send a process the signal `how`. Kill it if it still runs after `timeout_s`."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(KILL_WAIT_S)


def die_with_parent(death_signal: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent dies. Only Linux can."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, int(death_signal))


@contextmanager
def inheriting_orphans() -> Iterator[None]:
    """Become, for now, the parent of the processes below this one whose own parent ends. Only Linux can."""
    assert _prctl is not None, "nothing is forked elsewhere"
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)
