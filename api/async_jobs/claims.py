"""Claims of `Idempotency-Key`s by `POST /jobs`: a claim is appended in the transaction of its jobs.

So of two calls with one key, at once or one after the other, one alone is accepted. Does not answer the other.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from domain.errors import IdempotencyMismatch
from domain.events import JobsClaimed, claim_stream
from domain.idempotency import Idempotency
from infra.event_log import Commit, EventLog


class Claim(Struct, frozen=True, kw_only=True):
    """The claim of one call, and the jobs that an earlier call under the same key has made."""

    known_by: Idempotency
    version: int
    """Of the claim's stream."""
    earlier: JobsClaimed | None
    """None: the key is free."""

    def commit(
        self, project_id: str, key_id: str, at: datetime, *, job_id: str | None = None, batch_id: str | None = None
    ) -> Commit:
        """Return what claims the key for a job or a batch, to be appended with it."""
        event = JobsClaimed(key_id=key_id, fingerprint=self.known_by.fingerprint, job_id=job_id, batch_id=batch_id)
        return Commit(
            stream=claim_stream(self.known_by.key),
            expected_version=self.version,
            project_id=project_id,
            at=at,
            events=(event,),
        )


async def look(log: EventLog, known_by: Idempotency, now: datetime) -> Claim:
    """Find out what was accepted under a key.

    Raises:
        IdempotencyMismatch: it was another call's.
        Unavailable: the database is away.

    """
    history = await log.read_stream(claim_stream(known_by.key))
    last = history[-1] if history else None
    if last is None or last.at + timedelta(seconds=known_by.ttl_s) <= now:
        return Claim(known_by=known_by, version=len(history), earlier=None)
    assert isinstance(last.event, JobsClaimed), "the only kind of event of such a stream"
    if last.event.fingerprint != known_by.fingerprint:
        raise IdempotencyMismatch(
            "this Idempotency-Key is that of another request: send a new one with each new request, and the same body "
            "with each retry"
        )
    return Claim(known_by=known_by, version=len(history), earlier=last.event)
