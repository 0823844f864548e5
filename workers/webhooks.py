"""Sends alerts, and the ends of asynchronous jobs, to webhook URLs: signed as Standard Webhooks prescribes, with
retries. What became of each is an event.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import aiohttp
import structlog
from standardwebhooks import Webhook

from domain.errors import InvalidRequest
from domain.events import AlertTold, Event, WebhookTold
from domain.json_numbers import encode
from domain.money import NanoUsd, to_usd
from infra.database import Pool, database_errors
from infra.event_log import Commit, Conflict, EventLog
from infra.outbound import check_url, open_session
from infra.vault import Vault
from projections.alerts import Alerts, undelivered_alert
from projections.freshness import wait_until_folded
from projections.job_ends import EndToTell, end_to_tell
from projections.jobs import Jobs
from projections.webhook_secrets import rotations_in_use
from workers.delivery import Delivery

TIMEOUT_S = 10.0
SLOTS = 64
"""Messages that a worker sends at a time: so many alerts, and so many ends of jobs."""
RETRY_AFTER_S = (2.0, 30.0, 300.0, 1_800.0)
"""Before each delivery after the first."""

log = structlog.get_logger(__name__)


class WebhookSender:
    """Sends signed messages for one worker."""

    def __init__(self, *, pool: Pool, vault: Vault, allow_loopback: bool, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._vault = vault
        self._allow_loopback = allow_loopback
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, message_id: str, project_id: str, body: bytes) -> int | None:
        """Send a message. Return the status of the response; None if there was no response.

        Raises:
            Unavailable: the database is away.

        """
        now = self._now()
        rotations = await rotations_in_use(self._pool, project_id, now)
        secrets = [self._vault.webhook_secret(project_id, rotation) for rotation in rotations]
        headers = signed_headers(message_id, now, body, *secrets)
        try:
            check_url(url, field="url", allow_loopback=self._allow_loopback)
            if self._session is None:
                self._session = open_session(allow_loopback=self._allow_loopback, timeout_s=TIMEOUT_S, limit=2 * SLOTS)
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status
        except (InvalidRequest, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("webhook_unreachable", message_id=message_id, error=type(error).__name__)
            return None


class AlertWebhooks:
    """Delivers alerts for one worker."""

    def __init__(self, *, pool: Pool, event_log: EventLog, sender: WebhookSender, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._log = event_log
        self._sender = sender
        self._now = now

    async def deliver(self, delivery: Delivery) -> None:
        """Send one alert. If the URL does not accept it, it is delivered again later, until the last delivery.

        Raises:
            Unavailable: the database or the projector is away; the message is delivered again.

        """
        stream = delivery.data.decode()
        await wait_until_folded(self._pool, Alerts.name)
        async with database_errors():
            alert = await undelivered_alert(self._pool, stream)
        if alert is None:
            await delivery.ack()
            return
        project_id = alert["project_id"]
        status = await self._sender.post(alert["alert_url"], stream, project_id, _alert_body(alert))
        outcome = _outcome(status, delivery)
        if outcome is not None:
            told = AlertTold(alert=stream, outcome=outcome, deliveries=delivery.number, status=status)
            await _record(self._log, stream, 1, project_id, self._now(), told)
        await _settle(delivery, outcome, stream, status)


class JobWebhooks:
    """Tells the ends of jobs and batches for one worker."""

    def __init__(self, *, pool: Pool, event_log: EventLog, sender: WebhookSender, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._log = event_log
        self._sender = sender
        self._now = now

    async def deliver(self, delivery: Delivery) -> None:
        """Tell one end, as `AlertWebhooks.deliver`. Raises as it."""
        stream = delivery.data.decode()
        await wait_until_folded(self._pool, Jobs.name)
        end = await end_to_tell(self._pool, stream)
        if end is None:
            await delivery.ack()
            return
        status = await self._sender.post(end.url, end.message_id, end.project_id, _end_body(end))
        outcome = _outcome(status, delivery)
        if outcome is not None:
            told = WebhookTold(outcome=outcome, deliveries=delivery.number, status=status)
            version = len(await self._log.read_stream(stream))
            await _record(self._log, stream, version, end.project_id, self._now(), told)
        await _settle(delivery, outcome, stream, status)


def _outcome(status: int | None, delivery: Delivery) -> Literal["delivered", "given_up"] | None:
    """Return what has become of a message; None: it is delivered again."""
    if status is not None and 200 <= status < 300:
        return "delivered"
    return "given_up" if delivery.is_last else None


async def _settle(
    delivery: Delivery, outcome: Literal["delivered", "given_up"] | None, stream: str, status: int | None
) -> None:
    match outcome:
        case "delivered":
            await delivery.ack()
        case "given_up":
            await delivery.term()
        case None:
            log.warning("webhook_undelivered", stream=stream, status=status, delivery=delivery.number)
            await delivery.nak(RETRY_AFTER_S[min(delivery.number, len(RETRY_AFTER_S)) - 1])


async def _record(event_log: EventLog, stream: str, version: int, project_id: str, at: datetime, told: Event) -> None:
    try:
        await event_log.append(
            Commit(stream=stream, expected_version=version, project_id=project_id, at=at, events=(told,))
        )
    except Conflict:
        log.info("told_before", stream=stream)


def signed_headers(message_id: str, at: datetime, body: bytes, *secrets: bytes) -> dict[str, str]:
    """Make the headers of a message: its id, when it was signed (whole seconds, rounded down), a signature by each
    secret.
    """
    at = at.astimezone(UTC)  # the library reads the clock's digits as UTC, whatever the zone
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, at, body.decode()) for secret in secrets),
    }


def _alert_body(alert: Mapping[str, Any]) -> bytes:
    return encode(
        {
            "type": "budget.threshold_reached",
            "timestamp": alert["raised_at"],
            "data": {
                "projectId": alert["project_id"],
                "scope": alert["scope"],
                "scopeId": alert["scope_id"],
                "period": alert["period"],
                "startsOn": alert["starts_on"],
                "thresholdPercent": alert["threshold_percent"],
                "limit": to_usd(NanoUsd(alert["limit_nano_usd"])),
                "spent": to_usd(NanoUsd(alert["taken_nano_usd"])),
            },
        }
    )


def _end_body(end: EndToTell) -> bytes:
    return encode({"type": end.type, "timestamp": end.ended_at, "data": end.data})
