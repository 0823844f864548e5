"""`gateway audit`: verify and export the log, compare the read models with it, settle assumed costs."""

import sys
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import click

from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.audit_evidence import EXIT_CODES, read_evidence, read_keys
from cli.processes import fail, read_settings
from cli.progress import progress
from cli.terminal import show, show_json
from domain.errors import InvalidRequest, NotFound
from domain.events import AttemptLost, request_stream
from domain.log_head import encode_head, one_line
from domain.money import NanoUsd, from_usd, to_usd
from domain.request_decider import decide_reconciled, unsettled_attempts
from infra.audit_keys import signing_key
from infra.log_verification import verify
from infra.raw_events import export_line, raw_batches
from infra.request_log import record
from infra.restores import declare_restore
from infra.signed_heads import heads_from
from infra.verification_report import report
from projections.balance import balance as compare


@click.group()
def audit() -> None:
    """Verify, export and balance the log; settle assumed costs."""


@audit.command("verify")
@click.option(
    "--anchors",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File of signed heads that was kept outside the database. Several may be given. "
    "[default: the installation's own]",
)
@click.option(
    "--head",
    "positions",
    multiple=True,
    metavar="POSITION:DIGEST",
    help="Position that an answer carried in x-gateway-log-position. Several may be given.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="KEY",
    help="Public key that signatures must be of. Several may be given. [default: the installation's own]",
)
@DATA_DIR
def verify_log(
    files: tuple[Path, ...], positions: tuple[str, ...], public_keys: tuple[str, ...], data_dir: Path | None
) -> None:
    """Verify the log: its hash chain, its signed heads, and their copies outside the database.

    Exits with code 1 and prints the first wrong position if the log was changed; with code 3 if it agrees with itself,
    but is not signed.
    """

    async def run(session: AdminSession) -> int:
        evidence = await read_evidence(session, files, positions, public_keys)
        with progress("verify") as told:
            found = await verify(session.pool, evidence, told)
        verdict, lines = report(evidence, found, session.settings, datetime.now(UTC))
        for line in lines:
            show(line)
        return EXIT_CODES[verdict]

    sys.exit(run_in_session(data_dir, run))


@audit.command()
@DATA_DIR
def heads(data_dir: Path | None) -> None:
    """Print the signed heads of the log as JSON, one per line.

    With the output of `export` and the public key, others can verify the log.
    """

    async def run(session: AdminSession) -> None:
        async for head in heads_from(session.pool, 1):
            show_json(encode_head(head).decode())

    run_in_session(data_dir, run)


@audit.command("keys")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Data directory of `gateway up`. [env: GATEWAY_DATA_DIR]"
)
def show_keys(data_dir: Path | None) -> None:
    """Print the public keys that verify the signed heads, each with its id."""
    for key_id, public_key in read_keys(read_settings(data_dir=data_dir), ()).listed():
        click.echo(f"{key_id}  {public_key}")


@audit.command()
@click.option("--reason", required=True, help="Why, for auditors: it is signed.")
@click.option(
    "--anchors",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File of signed heads that was kept outside the database. [default: the installation's own]",
)
@DATA_DIR
def restored(reason: str, files: tuple[Path, ...], data_dir: Path | None) -> None:
    """Declare that an older copy of the database was restored.

    The heads that were signed after that copy are given up, which everyone sees who verifies the log. Needs the key.
    """

    async def run(session: AdminSession) -> None:
        evidence = await read_evidence(session, files, (), ())
        if one_line(reason) == "":
            raise InvalidRequest("--reason is empty")
        if (key := signing_key(session.settings)) is None:
            fail("GATEWAY_AUDIT_KEY is not set: only its holder can declare a restore")
        head = await declare_restore(session.pool, key, evidence, one_line(reason), datetime.now(UTC))
        show(
            f"head {head.sequence} declares that the log goes on from position {head.position}; "
            f"what was signed after head {head.resumes_after} is given up"
        )

    run_in_session(data_dir, run, as_owner=True)


@audit.command()
@DATA_DIR
def export(data_dir: Path | None) -> None:
    """Print the log as JSON, one event per line.

    Each line has the digest and the hash chain, so that others can verify the log.
    """

    async def run(session: AdminSession) -> None:
        head = await session.log.head()
        with progress("export", shares_terminal=True) as told:
            async for batch in raw_batches(session.pool):
                for event in batch:
                    if event.position <= head:
                        show_json(export_line(event).decode())
                told(min(batch[-1].position, head), head)
                if batch[-1].position >= head:
                    break

    run_in_session(data_dir, run)


@audit.command()
@DATA_DIR
def balance(data_dir: Path | None) -> None:
    """Compare the costs in the read models with the log, and the held amounts with the attempts in flight.

    Exits with code 1 if a sum differs.
    """

    async def run(session: AdminSession) -> bool:
        with progress("balance") as told:
            found = await compare(session.pool, told)
        for line in found.lines():
            show(line)
        return found.agrees

    sys.exit(0 if run_in_session(data_dir, run) else 1)


@audit.command()
@click.argument("request_id", metavar="REQUEST")
@click.option("--cost", required=True, help="Cost of the attempt on the provider's bill, in US dollars.")
@click.option("--attempt", type=click.IntRange(1), help="Number of the attempt, if several have no known cost.")
@DATA_DIR
def reconcile(request_id: str, cost: str, attempt: int | None, data_dir: Path | None) -> None:
    """Enter the true cost of an attempt, if it is only assumed or not known.

    REQUEST is the id of the request. The budgets that the attempt was charged to are corrected too.
    """
    true_cost = _true_cost(cost)

    async def run(session: AdminSession) -> None:
        stored = await session.log.read_stream(request_stream(request_id))
        if not stored:
            raise NotFound(f"there is no request {request_id!r}")
        unsettled = unsettled_attempts([one.event for one in stored])
        chosen = [one for one in unsettled if attempt in (None, one.attempt)]
        if len(chosen) != 1:
            numbers = ", ".join(str(one.attempt) for one in chosen)
            raise InvalidRequest(
                f"{request_id} has several attempts without a known cost ({numbers}): choose one with --attempt"
                if chosen
                else f"the cost of {request_id} is known"
            )
        (settled,) = chosen
        await record(
            session.log,
            request_id=request_id,
            project_id=stored[0].project_id,
            at=datetime.now(UTC),
            decide=lambda history: decide_reconciled(history, settled, true_cost, source="operator"),
        )
        instead = (
            f", not the assumed ${to_usd(settled.assumed_nano_usd):f}"
            if isinstance(settled, AttemptLost)
            else ", which was not known"
        )
        show(f"attempt {settled.attempt} of {request_id} cost ${to_usd(true_cost):f}{instead}")

    run_in_session(data_dir, run)


def _true_cost(text: str) -> NanoUsd:
    try:
        cost = Decimal(text)
        nano_usd = from_usd(cost)
    except (InvalidOperation, ValueError):
        nano_usd = None
    if nano_usd is None or nano_usd < 0 or to_usd(nano_usd) != cost:
        fail(f"--cost is {text!r}: it must be an amount in US dollars, not negative, with at most nine decimals")
    return nano_usd
