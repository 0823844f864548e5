"""Sends alerts to the webhook URL of their project, signed as Standard Webhooks prescribes, with retries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
import structlog
from standardwebhooks import Webhook

from domain.errors import InvalidRequest
from domain.events import AlertTold
from domain.money import NanoUsd, to_usd
from infra.database import Pool, database_errors
from infra.event_log import Commit, Conflict, EventLog
from infra.outbound import check_url, open_session
from infra.vault import Vault
from projections.alerts import Alerts, undelivered_alert
from projections.freshness import wait_until_folded
from workers.delivery import Delivery

TIMEOUT_S = 10.0
RETRY_AFTER_S = (2.0, 30.0, 300.0, 1_800.0)
"""Before each delivery after the first."""

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder(decimal_format="number").encode


class AlertWebhooks:
    """Delivers alerts for one worker."""

    def __init__(
        self, *, pool: Pool, event_log: EventLog, vault: Vault, allow_loopback: bool, now: Callable[[], datetime]
    ) -> None:
        self._pool = pool
        self._log = event_log
        self._vault = vault
        self._allow_loopback = allow_loopback
        self._now = now
        self._session: aiohttp.ClientSession | None = None

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
        status = await self._post(alert)
        if status is not None and 200 <= status < 300:
            await self._record(
                alert, AlertTold(alert=stream, outcome="delivered", deliveries=delivery.number, status=status)
            )
            await delivery.ack()
        elif delivery.is_last:
            await self._record(
                alert, AlertTold(alert=stream, outcome="given_up", deliveries=delivery.number, status=status)
            )
            await delivery.term()
        else:
            log.warning("alert_undelivered", alert=stream, status=status, delivery=delivery.number)
            await delivery.nak(RETRY_AFTER_S[min(delivery.number, len(RETRY_AFTER_S)) - 1])

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, alert: Mapping[str, Any]) -> int | None:
        """Send an alert. Return the status of the response; None if there was no response."""
        url, body, at = alert["alert_url"], _body(alert), self._now()
        headers = signed_headers(alert["alert"], at, body, self._vault.webhook_secret(alert["project_id"]))
        try:
            check_url(url, field="alertUrl", allow_loopback=self._allow_loopback)
            if self._session is None:
                self._session = open_session(allow_loopback=self._allow_loopback, timeout_s=TIMEOUT_S)
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status
        except (InvalidRequest, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("alert_unreachable", alert=alert["alert"], error=type(error).__name__)
            return None

    async def _record(self, alert: Mapping[str, Any], event: AlertTold) -> None:
        try:
            await self._log.append(
                Commit(
                    stream=event.alert,
                    expected_version=1,
                    project_id=alert["project_id"],
                    at=self._now(),
                    events=(event,),
                )
            )
        except Conflict:
            log.info("alert_told_before", alert=event.alert)


def signed_headers(message_id: str, at: datetime, body: bytes, secret: bytes) -> dict[str, str]:
    """Make the headers of a message: its id, when it was signed (whole seconds, rounded down), and the signature."""
    at = at.astimezone(UTC)  # the library reads the clock's digits as UTC, whatever the zone
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body.decode()),
    }


def _body(alert: Mapping[str, Any]) -> bytes:
    return _encode(
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
