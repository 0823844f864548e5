"""What nobody can know of a job counts as in hand: only workers that are there, and silent, do not have it."""

from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest

from infra.direct import DirectDispatch


class Client:
    """Stands in for the connection to NATS: each request fails."""

    def __init__(self, error: Exception, *, is_connected: bool) -> None:
        self.is_connected = is_connected
        self._error = error

    async def request(self, _subject: str, _body: bytes, **_options: Any) -> None:
        """Fail as told."""
        raise self._error


def dispatch(error: Exception, *, is_connected: bool) -> DirectDispatch:
    broker: Any = SimpleNamespace(client=Client(error, is_connected=is_connected))
    return DirectDispatch(broker)


@pytest.mark.parametrize("error", [nats.errors.NoRespondersError(), TimeoutError()])
async def test_job_that_no_worker_answers_for_is_in_nobodys_hand(error: Exception) -> None:
    assert not await dispatch(error, is_connected=True).is_in_hand("req_1")


@pytest.mark.parametrize("error", [TimeoutError(), nats.errors.ConnectionClosedError(), OSError()])
async def test_job_is_in_hand_for_all_that_is_known_while_nats_is_away(error: Exception) -> None:
    assert await dispatch(error, is_connected=False).is_in_hand("req_1")
