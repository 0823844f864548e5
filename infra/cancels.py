"""News that somebody who waited for a stream has left, as a worker hears it. Says nothing about who still waits."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from nats.aio.msg import Msg

from infra.broker import Broker
from infra.replies import cancel_subject


class Cancels:
    """One subscription for every stream of the process."""

    def __init__(self) -> None:
        self._left: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        """More than one where a job has been delivered here again."""

    async def listen(self, broker: Broker) -> None:
        """Start to listen."""

        async def take(message: Msg) -> None:
            self.note(message.subject.rpartition(".")[2])

        await broker.client.subscribe(cancel_subject("*"), cb=take)

    @contextmanager
    def of(self, request_id: str) -> Iterator[asyncio.Event]:
        """An event that is set each time that somebody leaves who waited for the request, until the block ends."""
        left = asyncio.Event()
        self._left[request_id].append(left)
        try:
            yield left
        finally:
            self._left[request_id].remove(left)
            if not self._left[request_id]:
                del self._left[request_id]

    def note(self, request_id: str) -> None:
        """Take note that somebody has left who waited for this request."""
        for left in self._left.get(request_id, ()):
            left.set()
