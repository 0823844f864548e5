"""A worker asks another about an attempt, and finds it at work, silent or gone."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from workers import delivery
from workers.delivery import AttemptsInHand


class Client:
    """A connection over which the requests end as they are told to."""

    def __init__(self, *ends: Callable[[], Exception]) -> None:
        self._ends = list(ends)
        self.flush_error: Exception | None = None
        self.is_connected = True
        self.stats = {"reconnects": 0}

    async def request(self, _subject: str, _payload: bytes, **_options: object) -> Any:
        end = self._ends.pop(0)
        raise end()

    async def flush(self, _timeout: float) -> None:
        if self.flush_error is not None:
            raise self.flush_error


def stood_still() -> Exception:
    time.sleep(2.5 * delivery.MAKER_TIMEOUT_S)
    return NatsTimeoutError()


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAKER_TIMEOUT_S", 0.02)
    monkeypatch.setattr(delivery, "GONE_PAUSE_S", 0.0)


@pytest.mark.parametrize(
    ("ends", "maker"),
    [
        ((NoRespondersError, NoRespondersError), "gone"),
        ((NatsTimeoutError,), "silent"),
        ((NoRespondersError, NatsTimeoutError), "silent"),
        ((stood_still, NatsTimeoutError), "silent"),
        ((stood_still, stood_still), "at work"),
        ((NoRespondersError, stood_still), "at work"),
        ((stood_still, NoRespondersError), "at work"),
        ((ConnectionClosedError,), "at work"),
    ],
)
async def test_a_worker_is_gone_or_silent_only_if_that_was_seen(
    ends: tuple[Callable[[], Exception], ...], maker: str
) -> None:
    client: Any = Client(*ends)
    broker: Any = type("OverClient", (), {"client": client})
    assert await AttemptsInHand(broker, "wrk_a").maker_of("req_1", 1, "wrk_b") == maker


@pytest.mark.parametrize("fault", ["silent", "away", "away meanwhile"])
async def test_nothing_is_known_of_a_worker_if_the_own_server_may_not_have_heard(fault: str) -> None:
    client: Any = Client()
    broker: Any = type("OverClient", (), {"client": client})

    def lost() -> Exception:
        client.flush_error = NatsTimeoutError() if fault == "silent" else None
        client.is_connected = fault != "away"
        client.stats["reconnects"] = int(fault == "away meanwhile")
        return NatsTimeoutError()

    client._ends.append(lost)
    assert await AttemptsInHand(broker, "wrk_a").maker_of("req_1", 1, "wrk_b") == "at work"
