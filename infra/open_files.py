"""How many connections this process may have open. To the system each is an open file."""

import contextlib
import resource

RESERVED_FILES = 256
"""Open files that connections leave to the process's own sockets and files."""


def allow_connections(wanted: int) -> int:
    """Raise the soft limit of open files, so that so many connections may be open, as far as the hard limit allows.

    Returns how many of them may be open; at least 1.
    """
    files = wanted + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return wanted
    raised = files if hard == resource.RLIM_INFINITY else min(files, hard)
    with contextlib.suppress(ValueError, OSError):  # some systems allow less than they say: it stays as it was
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    return max(1, soft - RESERVED_FILES)
