"""Limits the connections of this process by its open files, as the system counts each connection as one."""

import contextlib
import resource

RESERVED_FILES = 256
"""Open files that connections leave to the process's own sockets and files."""
ALLOWED_EVERYWHERE = 10_240
"""macOS allows a process no more open files, even if its hard limit is higher."""


def allow_connections(wanted: int) -> int:
    """Raise the soft limit of open files, so that so many connections may be open, as far as the hard limit allows.

    Returns how many of them may be open; at least 1.
    """
    files = wanted + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return wanted
    most = files if hard == resource.RLIM_INFINITY else min(files, hard)
    for raised in (most, min(most, ALLOWED_EVERYWHERE)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, raised), hard))
            soft = max(soft, raised)
            break
    return max(1, min(wanted, soft - RESERVED_FILES))
