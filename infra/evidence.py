"""Gathers what a verification compares the log with: the signed heads, and the installation's own copies and keys."""

from collections.abc import Sequence
from pathlib import Path

from domain.log_head import LogPosition
from infra.audit_keys import TrustedKeys, trusted_keys
from infra.database import Pool
from infra.head_anchors import read_anchors
from infra.head_verification import Anchors, Evidence
from infra.settings import ANCHOR_FILE, Settings
from infra.signed_heads import heads_from


async def own_evidence(pool: Pool, settings: Settings) -> Evidence:
    """Gather the installation's own evidence.

    Raises:
        OSError: the file of anchors cannot be read.
        ValueError: a public key is none.
        UnsafePathError: a file with keys is not ours alone.
        Unavailable: the database is away.

    """
    anchors = [read_anchored(path) for path in own_anchor_files(settings)]
    return await evidence_of(pool, trusted_keys(settings), anchors)


async def evidence_of(
    pool: Pool, keys: TrustedKeys, anchors: Sequence[Anchors], kept: Sequence[LogPosition] = ()
) -> Evidence:
    """Add the database's heads to what was read. The anchors come first: what is anchored is in the database already.

    Raises:
        Unavailable: the database is away.

    """
    heads = [head async for head in heads_from(pool, 1)]
    return Evidence(keys=keys, anchors=anchors, kept=kept, heads=heads)


def own_anchor_files(settings: Settings) -> list[Path]:
    """Return the installation's own file of anchors, if it can be found from here."""
    path = settings.audit_anchor_file or settings.data_dir / ANCHOR_FILE
    return [path] if path.is_file() else []


def read_anchored(path: Path) -> Anchors:
    """Read a file of anchors.

    Raises:
        OSError: the file cannot be read.

    """
    read = read_anchors(path)
    unreadable = f" ({read.unreadable} lines cannot be read)" if read.unreadable else ""
    return Anchors(source=f"{path}{unreadable}", heads=read.heads)
