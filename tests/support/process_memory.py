"""Reads the memory of a process: a forked process shows its environment nowhere else."""

import re
from pathlib import Path

import psutil


def search_memory(process: psutil.Process, pattern: bytes) -> set[bytes]:
    """Return what matches a regular expression in a process's own memory. Its parent may read it, on Linux."""
    found: set[bytes] = set()
    place = Path(f"/proc/{process.pid}")
    with (place / "maps").open() as maps, (place / "mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, access, *_ = line.split()
            if not access.startswith("rw") or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(address, 16) for address in span.split("-"))
            memory.seek(start)
            try:
                found.update(re.findall(pattern, memory.read(end - start)))
            except OSError:  # it has no pages there any more
                continue
    return found


def has_in_memory(process: psutil.Process, text: str) -> bool:
    """Tell whether a text is anywhere in a process's own memory."""
    return bool(search_memory(process, re.escape(text.encode())))


def variable_of(process: psutil.Process, name: str) -> str:
    """Return the value of an environment variable of a process."""
    (value,) = search_memory(process, re.escape(name.encode()) + rb"=([^\0]+)\0")
    return value.decode()
