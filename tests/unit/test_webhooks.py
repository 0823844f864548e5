"""Webhook messages are signed as Standard Webhooks prescribes."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest

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
