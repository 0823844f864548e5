"""What `gateway audit verify` compares the log with, and how it says what it found."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cli.admin_session import AdminSession
from cli.processes import fail
from domain.log_head import LogPosition, parse_position
from infra.audit_keys import TrustedKeys, decode_key, trusted_keys
from infra.head_anchors import ANCHOR_FILE, read_anchors
from infra.head_verification import Anchors, Evidence
from infra.log_verification import Verification
from infra.private_files import UnsafePathError
from infra.settings import Settings
from infra.signed_heads import heads_from

INTACT, BROKEN, UNSIGNED = 0, 1, 3
"""Exit codes. 2 is that of a wrong command."""
UNSIGNED_INTERVALS = 2
UNSIGNED_REST_S = 60.0
"""Events may be unsigned for so many intervals and seconds: longer, and no projector runs, or heads were removed."""
CLOCK_TOLERANCE = timedelta(seconds=60)
"""By how much clocks may differ. An event that is dated later does not say for how long it is unsigned."""


async def read_evidence(
    session: AdminSession, files: Sequence[Path], positions: Sequence[str], public_keys: Sequence[str]
) -> Evidence:
    """Read the anchors, then the database's heads: what is anchored is in the database already.

    Exits with code 2 if something that was given cannot be read.
    """
    anchors = [_read(path) for path in files or own_anchor_files(session.settings)]
    return Evidence(
        keys=read_keys(session.settings, public_keys),
        anchors=anchors,
        kept=[_position(text) for text in positions],
        heads=[head async for head in heads_from(session.pool, 1)],
    )


def own_anchor_files(settings: Settings) -> list[Path]:
    """Return the installation's own file of anchors, if it can be found from here."""
    path = settings.audit_anchor_file or settings.data_dir / ANCHOR_FILE
    return [path] if path.is_file() else []


def read_keys(settings: Settings, given: Sequence[str]) -> TrustedKeys:
    """Return the given public keys, or else the installation's own. Exits with code 2 if one is wrong."""
    try:
        return TrustedKeys(map(decode_key, given)) if given else trusted_keys(settings)
    except ValueError as error:
        fail(f"a public key is {error}")
    except UnsafePathError as error:
        fail(str(error))


def report(evidence: Evidence, found: Verification, settings: Settings, now: datetime) -> tuple[int, list[str]]:
    """Return the exit code and the lines of a verification that was made now."""
    lines = [
        f"restored: head {head.sequence} of {head.at:%Y-%m-%d %H:%M:%S} UTC gives up what was signed after head "
        f"{head.resumes_after} ({head.reason or 'without a reason'})"
        for head in found.report.restores
    ]
    if found.first_bad is not None:
        return BROKEN, [*lines, f"BROKEN at position {found.first_bad}: {found.reason}"]
    lines = [f"intact: {found.events} events in {found.batches} batches, head {found.head.hex()}", *lines]
    lines += _agreed(evidence, found)
    if (reason := _why_unsigned(evidence, found, settings, now)) is not None:
        return UNSIGNED, [*lines, f"UNSIGNED: {reason}"]
    return INTACT, lines


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


def _read(path: Path) -> Anchors:
    try:
        read = read_anchors(path)
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    unreadable = f" ({read.unreadable} lines cannot be read)" if read.unreadable else ""
    return Anchors(source=f"{path}{unreadable}", heads=read.heads)


def _position(text: str) -> LogPosition:
    try:
        return parse_position(text)
    except ValueError as error:
        fail(f"--head: {error}")
