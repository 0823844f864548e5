"""What `gateway audit verify` compares the log with, and with what code it ends."""

from collections.abc import Sequence
from pathlib import Path

from cli.admin_session import AdminSession
from cli.processes import fail
from domain.log_head import LogPosition, parse_position
from infra.audit_keys import TrustedKeys, decode_key, trusted_keys
from infra.evidence import evidence_of, own_anchor_files, read_anchored
from infra.head_verification import Anchors, Evidence
from infra.private_files import UnsafePathError
from infra.settings import Settings
from infra.verification_report import Verdict

EXIT_CODES = {Verdict.INTACT: 0, Verdict.BROKEN: 1, Verdict.UNSIGNED: 3}
"""2 is that of a wrong command."""


async def read_evidence(
    session: AdminSession, files: Sequence[Path], positions: Sequence[str], public_keys: Sequence[str]
) -> Evidence:
    """Gather what was given, or else the installation's own. Exits with code 2 if something cannot be read."""
    return await evidence_of(
        session.pool,
        anchors=[_read(path) for path in files or own_anchor_files(session.settings)],
        keys=read_keys(session.settings, public_keys),
        kept=[_position(text) for text in positions],
    )


def read_keys(settings: Settings, given: Sequence[str]) -> TrustedKeys:
    """Return the given public keys, or else the installation's own. Exits with code 2 if one is wrong."""
    try:
        return TrustedKeys(map(decode_key, given)) if given else trusted_keys(settings)
    except ValueError as error:
        fail(f"a public key is {error}")
    except UnsafePathError as error:
        fail(str(error))


def _read(path: Path) -> Anchors:
    try:
        return read_anchored(path)
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")


def _position(text: str) -> LogPosition:
    try:
        return parse_position(text)
    except ValueError as error:
        fail(f"--head: {error}")
