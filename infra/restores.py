"""Declares that an older copy of the database was restored: the log goes on from there, and everybody can see it."""

from datetime import datetime

from domain.errors import InvalidRequest, Unavailable
from domain.log_head import SignedHead, head_hash
from infra.audit_keys import AuditKey
from infra.database import Pool
from infra.head_verification import Evidence
from infra.log_verification import verify
from infra.signed_heads import add_head, log_position


async def declare_restore(pool: Pool, key: AuditKey, evidence: Evidence, reason: str, at: datetime) -> SignedHead:
    """Sign the head of the restored log and give up the heads that were signed after it.

    Raises:
        InvalidRequest: the anchors have no head that the database lacks, or the restored log is not whole, or its heads
            are of unknown keys.
        Unavailable: a head was signed at the same moment.

    """
    last = evidence.heads[-1] if evidence.heads else None
    resumes_after = last.sequence if last is not None else 0
    anchored = [head for anchors in evidence.anchors for head in anchors.heads if evidence.keys.fault_of(head) is None]
    newest = max(anchored, key=lambda head: head.sequence, default=None)
    if newest is None or newest.sequence <= resumes_after:
        raise InvalidRequest("the database has every head that is anchored: there is no restore to declare")
    whole = await verify(pool, Evidence(keys=evidence.keys, heads=evidence.heads))
    if whole.first_bad is not None:
        raise InvalidRequest(f"the restored log is not whole: at position {whole.first_bad}, {whole.reason}")
    if whole.report.unknown_keys:
        raise InvalidRequest("the heads of the restored log are signed with keys that are not known here")
    head = await log_position(pool)
    assert head is not None, "the verification has found it"
    signed = key.sign(
        head,
        sequence=newest.sequence + 1,
        previous=head_hash(newest),
        at=at,
        resumes_after=resumes_after,
        reason=reason,
    )
    if not await add_head(pool, signed):
        raise Unavailable("a head was signed at the same moment: try again")
    return signed
