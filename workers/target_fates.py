"""What became of the targets of a request's plan, for the event that ends it. Pure."""

from domain.events import AttemptFailed, AttemptLost
from domain.failover import TargetFate
from domain.request_decider import History
from infra.jobs import Job


def target_fates(
    root: Job,
    history: History,
    skipped: tuple[tuple[int, str], ...],
    *,
    answered: int | None = None,
    failed: tuple[int, str] | None = None,
) -> tuple[TargetFate, ...]:
    """Return the fate of each target; none if the request has one target alone.

    `skipped` says which were passed over and why, `answered` which one gave the answer, `failed` which one has just
    failed, and the error's code: the history does not have that yet.
    """
    failover = root.failover
    if failover is None:
        return ()
    ended: dict[int, str] = {}
    for event in history:
        if isinstance(event, AttemptFailed):
            ended[event.target] = event.code
        elif isinstance(event, AttemptLost):
            ended[event.target] = event.reason
    if failed is not None:
        number, code = failed
        ended[number] = code
    passed_over = dict(skipped)
    return (
        *(_fate(root.at(number), number, ended, passed_over, answered) for number in range(root.targets)),
        *failover.dropped,
    )


def _fate(job: Job, number: int, ended: dict[int, str], skipped: dict[int, str], answered: int | None) -> TargetFate:
    model, provider = job.identity.model, job.identity.provider
    if number == answered:
        return TargetFate(model=model, provider=provider, outcome="answered")
    if number in ended and skipped.get(number) != "circuit":
        return TargetFate(model=model, provider=provider, outcome="failed", reason=ended[number])
    if number in skipped:
        return TargetFate(model=model, provider=provider, outcome="skipped", reason=skipped[number])
    return TargetFate(model=model, provider=provider, outcome="not_tried")
