"""Webhook messages are signed as Standard Webhooks prescribes."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from infra.vault import Vault
from workers.webhooks import signed_headers

SECRET = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
SIGNED_AT = datetime.fromtimestamp(1_614_265_330.9, UTC)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9))])
def test_the_signature_is_that_of_a_known_message(zone: timezone) -> None:
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", SIGNED_AT.astimezone(zone), b'{"test": 2432232314}', SECRET
    )
    assert headers == {
        "content-type": "application/json",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_message_signed_with_two_secrets_is_verified_by_either() -> None:
    vault = Vault(bytes(32))
    former, newest = vault.webhook_secret("prj"), vault.webhook_secret("prj", 1)
    assert former != newest != vault.webhook_secret("prj", 2)
    body, at = b'{"type":"job.succeeded"}', datetime.now(UTC)
    headers = signed_headers("job_1", at, body, newest, former)
    for secret in (former, newest):
        assert Webhook(secret).verify(body, headers) == {"type": "job.succeeded"}
    with pytest.raises(WebhookVerificationError):
        Webhook(vault.webhook_secret("prj", 2)).verify(body, headers)
