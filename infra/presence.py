"""Whether a worker's process is still there, for processes that only want to know that."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from nats.errors import NoRespondersError

from infra.broker import Broker, BrokerErrors
from infra.reply_subjects import WORKER_ID, claims_subject

TIMEOUT_S = 1.0
LOOKS = 3
MAX_ASKED_AT_ONCE = 32
PAUSE_S = 0.5
"""Between two looks: a worker that is reconnecting does not listen for a moment."""

IsGone = Callable[[str], Awaitable[bool]]
"""True for the id of a worker whose process has ended."""


def gone_workers(broker: Broker) -> IsGone:
    """Return a function that asks for a worker by its id: nothing listens there any more once its process has ended.

    False: it is there, does not reply, cannot be asked at the moment, or is of a release before.
    """
    client = broker.client

    async def is_gone(worker_id: str) -> bool:
        if not worker_id.startswith(WORKER_ID):
            return False
        for look in range(LOOKS):
            try:
                await client.request(claims_subject(worker_id), b"", timeout=TIMEOUT_S)
            except NoRespondersError:
                if look < LOOKS - 1:
                    await asyncio.sleep(PAUSE_S)
                continue
            except BrokerErrors:
                return False
            return False
        return True

    return is_gone


async def gone_of(workers: Iterable[str], is_gone: IsGone) -> set[str]:
    """Return those of the workers that are gone: one that does not reply keeps no other waiting."""
    asked = sorted(set(workers))
    gone: set[str] = set()
    for start in range(0, len(asked), MAX_ASKED_AT_ONCE):
        some = asked[start : start + MAX_ASKED_AT_ONCE]
        answers = await asyncio.gather(*map(is_gone, some))
        gone.update(worker for worker, answer in zip(some, answers, strict=True) if answer)
    return gone
