"""Tells the circuits how each call of a provider went, and what its headers say of rate limits."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Self

from msgspec.structs import replace

from domain.api_key import hint
from domain.circuit import CircuitKey
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.sse import SseEvent
from domain.errors import GatewayError, ProviderLost, ProviderTimeout, TimeLimit
from infra.cancellations import client_disconnected
from workers.circuits import CircuitBreaker, circuit_of
from workers.provider_failures import reported_failure
from workers.providers.provider import ProviderCall


class WatchedCall:
    """One call that is being made, watched to the end of its answer or of its stream: the block ends with it."""

    def __init__(self, circuits: CircuitBreaker | None, call: ProviderCall) -> None:
        self._circuits = circuits
        self._key: CircuitKey = circuit_of(call)
        self._began_s = time.monotonic()
        self._credentials = 1 + (len(call.credential.other_keys) if call.credential is not None else 0)
        if circuits is not None:
            call = replace(call, heard=partial(circuits.heard, self._key, credentials=self._credentials))
        self.call = call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case None | GatewayError():
                self._ended(error)
            case StreamFailed():
                self._ended(reported_failure(error, self.call.identity.provider))
            case UnreadableResponse() | RecursionError():
                provider = self.call.identity.provider
                self._ended(ProviderLost("the answer cannot be read", provider=provider))
            case asyncio.CancelledError() | GeneratorExit():
                self._ended(client_disconnected())
            case _:  # a fault of ours, which says nothing of the provider
                pass

    async def first_of(
        self, events: AsyncIterator[list[SseEvent]], on_first: Callable[[], None]
    ) -> AsyncGenerator[list[SseEvent], None]:
        """The events of a stream. Its first ones show that the provider answers, long before its end: the circuits and
        `on_first` are told.
        """
        async for batch in events:
            if self._circuits is not None:
                self._circuits.began(self._key, began_s=self._began_s)
            on_first()
            yield batch
            break
        async for batch in events:
            yield batch

    def _ended(self, error: GatewayError | None) -> None:
        """Tell how the call went."""
        if self._circuits is not None:
            credential = self.call.credential
            self._circuits.record(
                self._key,
                self.call.identity.project_id,
                error,
                began_s=self._began_s,
                hint=hint(credential.api_key) if credential is not None else None,
                credentials=self._credentials,
                is_callers_limit=isinstance(error, ProviderTimeout) and self._is_callers(error.limit),
            )

    def _is_callers(self, limit: TimeLimit) -> bool:
        """True if the caller has set this limit, and it comes before the deadline."""
        limit_s = self.call.callers_limits_s.get(limit)
        return limit_s is not None and limit_s <= self.call.timeout_s
