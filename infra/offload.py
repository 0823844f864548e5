"""Runs CPU work on large data in a thread, so that the event loop keeps running. Does not limit the threads."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

OFFLOAD_BYTES = 256 * 1024
"""Below this a thread costs more than it saves: hashing or parsing 256 KiB takes about a millisecond."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def offload(
    size_bytes: int, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call `function` in a thread if it works on at least `OFFLOAD_BYTES`, otherwise directly.

    The event loop runs beside the thread only if the code releases the interpreter's lock: Python code does so every
    5 ms, hashlib and zstandard while they work. A C function that keeps the lock, such as `msgspec.json.decode`, stops
    the loop for the whole call, in a thread as well.
    """
    if size_bytes < OFFLOAD_BYTES:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)
