"""Responses that a provider keeps: what is written down of one, and the job of the call that asks for its cost.

Only of requests that are passed on: what the gateway itself writes asks no provider to keep anything.
"""

from msgspec.structs import replace

from domain.credentials import DEFAULT_CREDENTIAL
from domain.dialects.passthrough.fields import METERED_LATER_FIELD
from domain.events import AttemptLost, CostIncurred, KeptResponse, subject_of
from domain.money import ZERO
from domain.request_identity import RequestIdentity
from infra.admission import Claim
from infra.jobs import Job
from workers.calls import PreparedCall

NEVER_MS = 0
"""No caller waits, and no deadline is looked at."""


def kept_response(job: Job, prepared: PreparedCall) -> KeptResponse | None:
    """Return how the response to a call can be asked for, still without its id; None: it cannot be, or has no price."""
    codec, credential = prepared.translation.provider, prepared.call.credential
    if codec is None or job.price is None or not job.is_passthrough or not codec.keeps_response(prepared.content):
        return None
    return KeptResponse(
        response_id="",
        operation=job.asked_operation or job.identity.operation,
        kind=job.kind,
        base_url=job.base_url,
        credential=credential.stored_as if credential is not None else DEFAULT_CREDENTIAL,
        is_own=credential is not None and credential.is_own,
        price=job.price,
        asked_terms=job.asked_terms,
        unpriced=tuple(name for name in job.unpriced if name != METERED_LATER_FIELD),
    )


def with_id(kept: KeptResponse | None, response_id: str) -> KeptResponse | None:
    """Name the response; None: it cannot be asked for."""
    return replace(kept, response_id=response_id) if kept is not None and response_id else None


def job_of(project_id: str, ended: AttemptLost | CostIncurred, kept: KeptResponse) -> Job:
    """Return as much of an attempt's job as a question about its response needs."""
    return Job(
        identity=RequestIdentity(
            **subject_of(ended) | {"project_id": project_id, "upstream_model": ended.upstream_model}
        ),
        kind=kept.kind,
        base_url=kept.base_url,
        price=kept.price,
        body=None,
        is_passthrough=True,
        asked_operation=kept.operation,
        asked_terms=kept.asked_terms,
        unpriced=kept.unpriced,
        reply_to="",
        admitted_at_ms=NEVER_MS,
        deadline_ms=NEVER_MS,
    )


def claim_of(ended: AttemptLost | CostIncurred) -> Claim:
    """Return the claim that an attempt was made under."""
    hold = ended.hold_nano_usd
    return Claim(attempt=ended.attempt, hold_nano_usd=hold if hold is not None else ZERO, budget_day=ended.budget_day)
