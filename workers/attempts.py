"""Knows which attempts a worker is making, and asks the other workers about theirs.

A delivery's heartbeats may have been lost with a connection although its attempt is being made.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nats.aio.msg import Msg

from infra.broker import Broker, BrokerErrors
from infra.reply_subjects import YES, holding_subject

ASK_TIMEOUT_S = 0.5


class AttemptsInHand:
    """The attempts of one worker."""

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client
        self._deliveries: dict[str, list[int]] = {}
        """The numbers of the deliveries whose attempts are being made, by request."""

    async def listen(self) -> None:
        """Reply to other processes from now on."""
        await self._client.subscribe(holding_subject("*"), cb=self._reply)

    @contextmanager
    def making(self, request_id: str, delivery: int) -> Iterator[None]:
        """Report this delivery's attempts as being made until the block ends."""
        deliveries = self._deliveries.setdefault(request_id, [])
        deliveries.append(delivery)
        try:
            yield
        finally:
            deliveries.remove(delivery)
            if not deliveries:
                del self._deliveries[request_id]

    async def are_made(self, request_id: str, delivery: int) -> bool:
        """Return True if a worker, this one or another, makes the attempts of this delivery."""
        if delivery in self._deliveries.get(request_id, ()):
            return True
        try:
            await self._client.request(holding_subject(request_id), b"%d" % delivery, timeout=ASK_TIMEOUT_S)
        except BrokerErrors:
            return False
        return True

    async def _reply(self, message: Msg) -> None:
        deliveries = self._deliveries.get(message.subject.rpartition(".")[2], ())
        if deliveries and (not message.data or int(message.data) in deliveries):
            await message.respond(YES)
