"""The process of one verification: `python -m projections.audit_process RUN KIND`, started by a projector.

Has the environment of the projector. Writes how far it is, and what it found, to the run's row.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog
import uvloop

from infra.collection import collect_rarely
from infra.database import Pool, open_pool
from infra.evidence import own_evidence
from infra.log_verification import verify
from infra.logging import configure_logging
from infra.progress import Progress
from infra.settings import Settings, environment, load_settings
from infra.verification_report import report
from projections.audit_runs import AuditKind, Verdict, end_run, report_run
from projections.balance import balance

NICENESS = 19
REPORT_S = 0.5
POOL_SIZE = 3

log = structlog.get_logger(__name__)

Found = tuple[Verdict, list[str]]
Audit = Callable[[Pool, Settings, Progress], Awaitable[Found]]


async def _verified(pool: Pool, settings: Settings, progress: Progress) -> Found:
    evidence = await own_evidence(pool, settings)
    verdict, lines = report(evidence, await verify(pool, evidence, progress), settings, datetime.now(UTC))
    return verdict.value, lines


async def _balanced(pool: Pool, _: Settings, progress: Progress) -> Found:
    found = await balance(pool, progress)
    return "agrees" if found.agrees else "differs", found.lines()


AUDITS: Mapping[AuditKind, Audit] = {"verify": _verified, "balance": _balanced}


async def make(pool: Pool, settings: Settings, run_id: str, kind: AuditKind) -> None:
    """Make the verification of a run, and write down what it found.

    Raises:
        Unavailable: the database is away when the end is written. What fails before is the run's verdict.

    """
    far = [0, 0]

    def told(done: int, total: int) -> None:
        far[:] = done, total

    audit = asyncio.ensure_future(AUDITS[kind](pool, settings, told))
    try:
        while not (await asyncio.wait((audit,), timeout=REPORT_S))[0]:
            if not await report_run(pool, run_id, *far):
                log.warning("audit_run_given_up", run_id=run_id)
                return
        await report_run(pool, run_id, *far)
        verdict, lines = audit.result()
    except Exception as error:
        log.exception("audit_run_failed", run_id=run_id)
        verdict, lines = "failed", [f"{type(error).__name__}: {error}"]
    finally:
        audit.cancel()
    await end_run(pool, run_id, verdict, lines)
    log.info("audit_run_ended", run_id=run_id, kind=kind, verdict=verdict)


async def _main(settings: Settings, run_id: str, kind: AuditKind) -> None:
    assert settings.database_url is not None, "the projector has it"
    pool = await open_pool(settings.database_url, name=f"gateway audit {run_id}", size=POOL_SIZE)
    try:
        await make(pool, settings, run_id, kind)
    finally:
        await pool.close()


def main(run_id: str, kind: AuditKind) -> None:
    """Run the process."""
    os.nice(NICENESS)
    settings = load_settings(environment(os.environ, Path.cwd()))
    configure_logging(settings.log_format, process="audit", secrets=settings.secret_texts, level=settings.log_level)
    collect_rarely()
    uvloop.run(_main(settings, run_id, kind))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])  # type: ignore[arg-type]  # the projector's own words
