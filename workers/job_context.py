"""What the steps of a job hand to each other. Frozen: a step that claims or records hands on a copy."""

from msgspec import Struct

from domain.request_decider import History
from infra.admission import Claim
from infra.cancellations import Cancellation
from infra.jobs import Job
from workers.calls import PreparedCall


class JobContext(Struct, frozen=True, kw_only=True):
    """A job, and the attempt at it that this delivery has claimed."""

    job: Job
    delivery: int
    """The number of this delivery, over all messages that the job was published as."""
    prepared: PreparedCall
    cancellation: Cancellation
    claim: Claim
    history: History
    """The request's stream as it was last read or written. If another process has appended since, the next append
    fails and reads it again.
    """
