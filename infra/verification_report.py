"""What a verification found, in words, and whether the log is proven by it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import Enum

from infra.head_verification import Evidence
from infra.log_verification import Verification
from infra.settings import Settings

UNSIGNED_INTERVALS = 2
UNSIGNED_REST_S = 60.0
"""Events may be unsigned for so many intervals and seconds: longer, and no projector runs, or heads were removed."""
CLOCK_TOLERANCE = timedelta(seconds=60)
"""By how much clocks may differ. An event that is dated later does not say for how long it is unsigned."""


class Verdict(Enum):
    """Of a log that was verified."""

    INTACT = "intact"
    BROKEN = "broken"
    """It was changed."""
    UNSIGNED = "unsigned"
    """It agrees with itself, but nobody has signed that it is the same as before."""


def report(evidence: Evidence, found: Verification, settings: Settings, now: datetime) -> tuple[Verdict, list[str]]:
    """Return the verdict and the lines of a verification that was made now."""
    lines = [
        f"restored: head {head.sequence} of {head.at:%Y-%m-%d %H:%M:%S} UTC gives up what was signed after head "
        f"{head.resumes_after} ({head.reason or 'without a reason'})"
        for head in found.report.restores
    ]
    if found.first_bad is not None:
        return Verdict.BROKEN, [*lines, f"BROKEN at position {found.first_bad}: {found.reason}"]
    lines = [f"intact: {found.events} events in {found.batches} batches, head {found.head.hex()}", *lines]
    lines += _agreed(evidence, found)
    if (reason := _why_unsigned(evidence, found, settings, now)) is not None:
        return Verdict.UNSIGNED, [*lines, f"UNSIGNED: {reason}"]
    return Verdict.INTACT, lines


def _agreed(evidence: Evidence, found: Verification) -> Iterator[str]:
    if evidence.heads and not found.report.unknown_keys:
        newest = evidence.heads[-1]
        yield (
            f"signed: {len(evidence.heads)} heads, the newest at position {newest.position} at "
            f"{newest.at:%Y-%m-%d %H:%M:%S} UTC with key {newest.key_id}; "
            f"{found.events - newest.position} events are newer"
        )
    for anchors in evidence.anchors if not found.report.unknown_keys else ():
        yield f"anchored: {len(anchors.heads)} heads in {anchors.source}"
    if found.report.given_up:
        yield f"given up by a restore: {found.report.given_up} of the anchored heads"
    for kept in evidence.kept:
        yield f"kept: the log still has {kept}"


def _why_unsigned(evidence: Evidence, found: Verification, settings: Settings, now: datetime) -> str | None:
    """Return why the log is not proven, though it agrees with itself; None if it is."""
    if not evidence.keys:
        return "there is no key to verify signatures with: give the public key with --public-key"
    if unknown := found.report.unknown_keys:
        known = ", ".join(key_id for key_id, _ in evidence.keys.listed())
        return (
            f"every head is signed with a key that is not known here ({', '.join(unknown)}), and known are {known}: "
            "give the public key, which `gateway audit keys` prints where the projector runs, with --public-key or "
            "GATEWAY_AUDIT_PUBLIC_KEYS"
        )
    allowed = timedelta(seconds=UNSIGNED_INTERVALS * settings.audit_interval_s + UNSIGNED_REST_S)
    if found.oldest_unsigned is None:
        return None
    newest = evidence.heads[-1].position if evidence.heads else 0
    latest = found.newest_unsigned or found.oldest_unsigned
    if latest > now + CLOCK_TOLERANCE:
        return (
            f"nothing after position {newest} is signed, and an event there is dated {latest:%Y-%m-%d %H:%M:%S} UTC, "
            "which is yet to come: a clock is wrong, or signed heads were removed"
        )
    if now - found.oldest_unsigned <= allowed:
        return None
    return (
        f"nothing after position {newest} is signed, and the first event there is from "
        f"{found.oldest_unsigned:%Y-%m-%d %H:%M:%S} UTC: no projector has signed since, or signed heads were removed"
    )
