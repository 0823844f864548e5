"""What the steps of a job hand to each other. Frozen: a step that claims or records hands on a copy."""

from msgspec import Struct

from domain.errors import GatewayError, ProviderError
from domain.failover import moves_on
from domain.request_decider import History
from infra.admission import Claim
from infra.cancellations import Cancellation
from infra.jobs import Job
from workers.calls import PreparedCall
from workers.observation import NOT_WATCHED_ATTEMPT, NOT_WATCHED_JOB, AttemptWatch, JobWatch


class JobContext(Struct, frozen=True, kw_only=True):
    """A job, and the attempt at it that this delivery has claimed."""

    root: Job
    """As it was published, with the request's plan."""
    job: Job
    """That of the target of this attempt."""
    target: int = 0
    """The target's number in the plan, from 0."""
    skipped: tuple[tuple[int, str], ...] = ()
    """The targets that were passed over so far, and why."""
    delivery: int
    """The number of this delivery, over all messages that the job was published as."""
    prepared: PreparedCall
    cancellation: Cancellation
    claim: Claim
    history: History
    """The request's stream as it was last read or written. If another process has appended since, the next append
    fails and reads it again.
    """
    watch: JobWatch = NOT_WATCHED_JOB
    attempt_watch: AttemptWatch = NOT_WATCHED_ATTEMPT
    """They are told how the delivery and its attempt go on."""

    @property
    def has_next(self) -> bool:
        """There is a target behind this one."""
        return self.target + 1 < self.root.targets

    def moves_on(self, error: GatewayError) -> bool:
        """Return True if the next target is to be tried after an error."""
        failover = self.root.failover
        if failover is None or not self.has_next or not isinstance(error, ProviderError):
            return False
        return moves_on(error, failover.fail_over_on)
