"""`gateway replay`: events in order, one a line."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from domain.events import StoredEvent, request_stream
from infra.event_log import READ_BATCH_EVENTS, Selection

_encode = msgspec.json.Encoder().encode
TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S%z"])


@click.command()
@click.option("--project", help="Only this project's.")
@click.option("--request", help="Only this request's.")
@click.option("--stream", help="Only this stream's.")
@click.option("--type", "kind", help="Only events of this type.")
@click.option("--since", type=TIME, help="From this UTC time on.")
@click.option("--until", type=TIME, help="Before this UTC time.")
@click.option("--after", type=click.IntRange(0), default=0, help="After this position.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@DATA_DIR
def replay(
    project: str | None,
    request: str | None,
    stream: str | None,
    kind: str | None,
    since: datetime | None,
    until: datetime | None,
    after: int,
    limit: int | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Print events in log order; without options the whole log."""
    selection = Selection(
        project_id=project,
        stream=request_stream(request) if request is not None else stream,
        type=kind,
        since=_in_utc(since),
        until=_in_utc(until),
    )

    async def work(session: AdminSession) -> None:
        position, left = after, limit
        while left is None or left > 0:
            wanted = READ_BATCH_EVENTS if left is None else min(left, READ_BATCH_EVENTS)
            events = await session.log.read_selected(selection, after=position, limit=wanted)
            for stored in events:
                click.echo(_line(stored, as_json=as_json))
            if len(events) < wanted:
                return
            position = events[-1].position
            left = left - len(events) if left is not None else None

    run_in_session(data_dir, work)


def _line(stored: StoredEvent, *, as_json: bool) -> str:
    if as_json:
        return _encode(stored).decode()
    at = f"{stored.at:%Y-%m-%dT%H:%M:%S.%f}Z"
    data = _encode(stored.event).decode()
    return f"{stored.position:>8} {at} {stored.project_id} {stored.stream}@{stored.version} {stored.type} {data}"


def _in_utc(moment: datetime | None) -> datetime | None:
    """Take a time without a zone as UTC's."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
