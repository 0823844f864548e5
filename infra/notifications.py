"""Change notifications between processes over core NATS. A lost one costs time, but never data."""

import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from infra.broker import FLUSH_TIMEOUT_S, Broker, BrokerErrors

LOG_APPENDED = "log.appended"
"""The log has new events, which the projector folds."""
KEYS_CHANGED = "keys.changed"
"""A project's keys or providers changed: drop them from caches. The payload is its id, or `INSTALLATION` for all."""

PRICES_CHANGED = "prices.changed"
"""The operator has set a price."""
CALLS_MISSING = "calls.missing"
"""A provider was found to lack a call. The payload is of `api/missing_calls.py`."""
PROMPTS_COUNTED = "prompts.counted"
"""A provider has counted a prompt's tokens. The payload is of `api/prompt_memory.py`."""

JOB_CANCELLED = "jobs.cancelled"
"""An asynchronous job was cancelled while it ran. The payload is its id."""

QUIET_S = 0.01
"""The shortest time between two notifications of new events. Shorter than the projector's pause between two folds."""


log = structlog.get_logger(__name__)


class Notifications:
    """Sends and receives change notifications for one process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._client = broker.client
        self._sent_at = 0.0
        self._callbacks: dict[str, list[Callable[[str], None]]] = {}

    async def appended(self, _position: int) -> None:
        """Notify the projector that the log has new events. Without a broker the projector polls.

        Sends nothing within `QUIET_S` of the last notification: the projector pauses longer, and then reads the log.
        """
        now = time.monotonic()
        if now - self._sent_at > QUIET_S and self._client.is_connected:
            self._sent_at = now
            with suppress(*BrokerErrors):  # the events are stored, even if the notification is lost
                await self._client.publish(LOG_APPENDED, b"")

    async def keys_changed(self, project_id: str) -> None:
        """Notify every process that a project's keys or providers changed."""
        await self._send(KEYS_CHANGED, project_id.encode())

    async def prices_changed(self) -> None:
        """Notify every process that the operator's prices changed."""
        await self._send(PRICES_CHANGED, b"")

    async def prompt_counted(self, counted: bytes) -> None:
        """Tell every process what a prompt was counted as. Unknown, it is bounded more loosely."""
        if self._client.is_connected:
            with suppress(*BrokerErrors):
                await self._client.publish(PROMPTS_COUNTED, counted)

    async def call_missing(self, missing: bytes) -> None:
        """Tell every process that a provider lacks a call. Those that are not told find out by themselves."""
        if self._client.is_connected:
            with suppress(*BrokerErrors):
                await self._client.publish(CALLS_MISSING, missing)

    async def job_cancelled(self, job_id: str) -> None:
        """Tell the process that runs a job that it was cancelled. One that is not told finds out at the job's end."""
        if self._client.is_connected:
            with suppress(*BrokerErrors):
                await self._client.publish(JOB_CANCELLED, job_id.encode())

    async def _send(self, subject: str, payload: bytes) -> None:
        """Tell this process at once: its next answer knows of the change. Then publish the notification and flush it.

        The change itself is committed already, so an error is only logged.
        """
        for callback in self._callbacks.get(subject, ()):
            callback(payload.decode())
        if not self._client.is_connected:
            return
        try:
            await self._client.publish(subject, payload)
            await self._client.flush(timeout=FLUSH_TIMEOUT_S)
        except BrokerErrors as error:
            log.warning("hint_not_given", subject=subject, error=type(error).__name__)

    async def on_change(self, subject: str, callback: Callable[[str], None]) -> None:
        """Call `callback` with the payload of every notification on a subject: twice, if this process sends it."""
        self._callbacks.setdefault(subject, []).append(callback)
        await self._broker.subscribe(subject, lambda _subject, _reply, payload: callback(payload.decode()))
