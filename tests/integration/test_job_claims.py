"""What `POST /jobs` accepts under an `Idempotency-Key`, it accepts once."""

from datetime import UTC, datetime, timedelta

import pytest

from api.async_jobs.claims import look
from domain.errors import IdempotencyMismatch
from domain.idempotency import Idempotency
from infra.event_log import Conflict
from tests.support.ledger import RealLedger

NOW = datetime(2026, 11, 26, tzinfo=UTC)
KNOWN_BY = Idempotency(key="key", fingerprint="body", received_at_ms=0, ttl_s=60)


async def test_repeat_finds_what_was_accepted_until_its_time_is_over(ledger: RealLedger) -> None:
    first = await look(ledger.log, KNOWN_BY, NOW)
    assert first.earlier is None
    await ledger.log.append(first.commit("p", "k", NOW, job_id="job_1"))
    again = await look(ledger.log, KNOWN_BY, NOW + timedelta(seconds=59))
    assert again.earlier is not None
    assert again.earlier.job_id == "job_1"
    late = await look(ledger.log, KNOWN_BY, NOW + timedelta(seconds=60))
    assert late.earlier is None
    await ledger.log.append(late.commit("p", "k", NOW + timedelta(seconds=60), batch_id="batch_1"))


async def test_another_body_under_the_key_is_refused(ledger: RealLedger) -> None:
    first = await look(ledger.log, KNOWN_BY, NOW)
    await ledger.log.append(first.commit("p", "k", NOW, job_id="job_1"))
    other = Idempotency(key="key", fingerprint="other", received_at_ms=0, ttl_s=60)
    with pytest.raises(IdempotencyMismatch):
        await look(ledger.log, other, NOW)


async def test_of_two_calls_at_once_one_is_accepted(ledger: RealLedger) -> None:
    one, other = await look(ledger.log, KNOWN_BY, NOW), await look(ledger.log, KNOWN_BY, NOW)
    await ledger.log.append(one.commit("p", "k", NOW, job_id="job_1"))
    with pytest.raises(Conflict):
        await ledger.log.append(other.commit("p", "k", NOW, job_id="job_2"))
