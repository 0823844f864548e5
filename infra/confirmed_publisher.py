"""Publishes messages to JetStream, each of which the stream confirms. Does not try again.

nats-py's own way takes forty calls more: it makes a random inbox and a cancellable wait for each message.
"""

import asyncio
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct
from nats.js.errors import APIError, NoStreamResponseError

from infra.broker import Broker
from infra.expiry import Expiry


class _Confirmation(Struct, frozen=True):
    """The stream's reply to a message. See https://docs.nats.io/reference/reference-protocols/nats_api_reference."""

    error: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Confirmation).decode


class ConfirmedPublisher:
    """The messages of one process, over one subscription for their confirmations."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._client = broker.client
        self._inbox = self._client.new_inbox()
        self._numbers = count()
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._subscribing = asyncio.Lock()
        self._is_subscribed = False

    async def publish(self, subject: str, payload: bytes, message_id: str, timeout_s: float) -> None:
        """Publish a message, and return once the stream has it. The stream takes each `message_id` once.

        Raises:
            APIError: the stream refuses it.
            NoStreamResponseError: no stream takes this subject at the moment.
            TimeoutError: no confirmation came; the stream may have it.
            nats.errors.Error: it could not be sent.

        """
        if not self._is_subscribed:
            await self._subscribe()
        number = str(next(self._numbers))
        confirmed = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            with Expiry(confirmed, timeout_s):
                await self._client.publish(
                    subject, payload, reply=f"{self._inbox}.{number}", headers={"Nats-Msg-Id": message_id}
                )
                confirmation = await confirmed
        finally:
            del self._waiting[number]
        if not confirmation:  # the server's word that nothing listens
            raise NoStreamResponseError
        error = _decode(confirmation).error
        if error is not None:
            raise APIError.from_error(error)

    async def _subscribe(self) -> None:
        async with self._subscribing:
            if not self._is_subscribed:
                await self._broker.subscribe(f"{self._inbox}.*", self._take)
                self._is_subscribed = True

    def _take(self, subject: str, _reply: str, data: bytes) -> None:
        confirmed = self._waiting.get(subject.rpartition(".")[2])
        if confirmed is not None and not confirmed.done():  # else it came late
            confirmed.set_result(data)
