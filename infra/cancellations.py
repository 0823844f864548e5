"""News that somebody who waited for a stream has left, as a worker hears it. Says nothing about who still waits."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from nats.aio.msg import Msg

from infra.broker import Broker
from infra.reply_subjects import CALLER, cancel_subject


class Cancellations:
    """Who has left one stream: its own caller, or others who waited with it."""

    def __init__(self) -> None:
        self.caller_is_gone = False
        self.news = asyncio.Event()
        """Set each time that somebody leaves; whoever looks at it clears it."""

    def note(self, *, is_caller: bool) -> None:
        """Somebody has left."""
        self.caller_is_gone = self.caller_is_gone or is_caller
        self.news.set()


class CancellationListener:
    """One subscription for every stream of the process."""

    def __init__(self) -> None:
        self._cancellations: defaultdict[str, list[Cancellations]] = defaultdict(list)
        """More than one where a job has been delivered here again."""

    async def listen(self, broker: Broker) -> None:
        """Start to listen."""

        async def take(message: Msg) -> None:
            self.note(message.subject.rpartition(".")[2], is_caller=message.data == CALLER)

        await broker.client.subscribe(cancel_subject("*"), cb=take)

    @contextmanager
    def of(self, request_id: str) -> Iterator[Cancellations]:
        """Those who leave that waited for the request, until the block ends."""
        cancellations = Cancellations()
        self._cancellations[request_id].append(cancellations)
        try:
            yield cancellations
        finally:
            self._cancellations[request_id].remove(cancellations)
            if not self._cancellations[request_id]:
                del self._cancellations[request_id]

    def note(self, request_id: str, *, is_caller: bool) -> None:
        """Take note that somebody has left who waited for this request."""
        for cancellations in self._cancellations.get(request_id, ()):
            cancellations.note(is_caller=is_caller)
