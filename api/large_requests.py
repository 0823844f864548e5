"""Works on large requests in threads, one at a time for each project: parsing one may take most of a second."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from domain.errors import InvalidRequest
from domain.reserve import below_reserve

LARGE_BYTES = 64 * 1024
"""Reading, translating and bounding so much takes up to 32 milliseconds if it is made to (`bench/strange_requests.py`);
a thread takes a tenth of one."""
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class LargeRequests:
    """The turns of one process's projects."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(
        self,
        project_id: str,
        size_bytes: int,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Call `function`, which works on a request of so many bytes: a small one's at once, a large one's in turn.

        Raises:
            InvalidRequest: the request is nested more deeply than Python can follow.

        """
        try:
            if size_bytes < LARGE_BYTES:
                return function(*args, **kwargs)
            async with self.turn(project_id):
                return await asyncio.to_thread(below_reserve, lambda: function(*args, **kwargs))
        except RecursionError:
            raise InvalidRequest("the body is nested too deeply") from None

    def turn(self, project_id: str) -> asyncio.Lock:
        """The turn of a project's large request, to be held while a thread works on it."""
        turn = self._turns.get(project_id)
        if turn is None:
            turn = self._turns[project_id] = asyncio.Lock()
        return turn
