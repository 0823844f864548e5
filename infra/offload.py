"""Runs CPU work on large data in a thread, so that the event loop goes on. Does not limit how many run at a time."""

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
    """Call `function` in a thread if it works on at least `OFFLOAD_BYTES`, else at once.

    Only code that releases the interpreter's lock runs beside the event loop without a pause: Python code (every 5 ms),
    hashlib, zstandard. One call of a C function that holds it, such as `msgspec.json.decode`, stops the loop for its
    whole length in a thread as well.
    """
    if size_bytes < OFFLOAD_BYTES:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)
