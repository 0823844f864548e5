"""Verifies the signed heads: their signatures, their order, and that the copies outside the database are among them.

Says at which positions the log must have which digest; `infra/log_verification.py` compares. Reads no database.

A restore of a backup gives up the heads that were signed after the backup. The operator declares it with a head that
`resumes_after` the last one of the backup, and whose sequence is higher than all that were given up.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from domain.log_head import NO_HEAD, LogPosition, SignedHead, head_hash
from infra.audit_keys import TrustedKeys


class Anchors(Struct, frozen=True, kw_only=True):
    """Heads that somebody kept outside the database."""

    source: str
    """Where they are from, for messages."""
    heads: Sequence[SignedHead]


class Evidence(Struct, frozen=True, kw_only=True):
    """What the log is compared with, beside itself."""

    keys: TrustedKeys
    heads: Sequence[SignedHead] = ()
    """Those in the database, by sequence."""
    anchors: Sequence[Anchors] = ()
    kept: Sequence[LogPosition] = ()
    """Positions that answers carried, as an auditor or a client has kept them."""


class Attested(NamedTuple):
    """That the log had a digest at a position, and who says so."""

    digest: bytes
    """Or its first bytes."""
    by: str


class Fault(NamedTuple):
    """Something that is wrong, and the first position that it concerns."""

    position: int
    reason: str


class HeadReport(Struct, frozen=True, kw_only=True):
    """The result of looking at the heads and the anchors alone."""

    faults: list[Fault]
    attested: dict[int, list[Attested]]
    """By position, what the log must have there."""
    restores: list[SignedHead]
    """The heads that declare a restore."""
    anchored: int
    """Copies that are the same as the database's heads."""
    given_up: int
    """Copies that are of heads which a restore gave up."""
    signed: int = 0
    """The position of the newest head in the database whose signature counts; 0: there is none."""
    unknown_keys: Sequence[str] = ()
    """The ids of the keys, if there are heads and all of them are signed with keys that are not known."""


def check_heads(evidence: Evidence) -> HeadReport:
    """Check the heads of the database and their copies.

    If none is of a known key, they prove nothing, and are no fault either: whoever verifies has the wrong keys.
    """
    attested: dict[int, list[Attested]] = defaultdict(list)
    for kept in evidence.kept:
        attested[kept.position].append(Attested(kept.digest, "the position that was kept"))
    if unknown := _unknown_keys(evidence):
        return HeadReport(faults=[], attested=attested, restores=[], anchored=0, given_up=0, unknown_keys=unknown)
    faults: list[Fault] = []
    signed = 0
    before: SignedHead | None = None
    for head in evidence.heads:
        if (fault := evidence.keys.fault_of(head)) is None:
            attested[head.position].append(Attested(head.digest, f"the head that was signed at {_time(head.at)}"))
            signed = max(signed, head.position)
            fault = link_fault(before, head)
        if fault is not None:
            faults.append(Fault(head.position, f"head {head.sequence} {fault}"))
        before = head
    restores = [head for head in evidence.heads if head.resumes_after is not None]
    in_database = {head.sequence: head for head in evidence.heads}
    anchored = given_up = 0
    for anchors in evidence.anchors:
        for head in anchors.heads:
            if (fault := evidence.keys.fault_of(head)) is not None:
                faults.append(Fault(head.position, f"head {head.sequence} in {anchors.source} {fault}"))
            elif in_database.get(head.sequence) == head:
                anchored += 1
            elif any(_gives_up(restore, head) for restore in restores):
                given_up += 1
            else:
                by = f"head {head.sequence} in {anchors.source}, which was signed at {_time(head.at)}"
                attested[head.position].append(Attested(head.digest, by))
                faults.append(Fault(head.position, f"the database does not have {by}"))
    return HeadReport(
        faults=faults, attested=attested, restores=restores, anchored=anchored, given_up=given_up, signed=signed
    )


def _unknown_keys(evidence: Evidence) -> list[str]:
    """Return the ids of the keys that signed, if none of them is known."""
    heads = [*evidence.heads, *(head for anchors in evidence.anchors for head in anchors.heads)]
    ids = sorted({head.key_id for head in heads})
    return ids if not any(key_id in evidence.keys for key_id in ids) else []


def link_fault(before: SignedHead | None, head: SignedHead) -> str | None:
    """Return why a head cannot follow the one before it, or None. `before` None: it is the first."""
    last = before.sequence if before is not None else 0
    if head.resumes_after is not None:
        if head.resumes_after != last or head.sequence <= last:
            return f"declares a restore after head {head.resumes_after}, but follows head {last}"
    elif head.sequence != last + 1:
        return f"follows head {last}: those between are missing"
    elif head.previous != (head_hash(before) if before is not None else NO_HEAD):
        return "does not name the head before it"
    if before is not None and head.position < before.position:
        return f"is at an earlier position than head {before.sequence}"
    return None


def _gives_up(restore: SignedHead, head: SignedHead) -> bool:
    return restore.resumes_after is not None and restore.resumes_after < head.sequence < restore.sequence


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
