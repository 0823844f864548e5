"""`gateway replay`: print the events of the log in order, one per line."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.terminal import show, show_json
from domain.events import StoredEvent, request_stream
from infra.event_log import READ_BATCH_EVENTS
from infra.log_selection import Selection, bounds_of

_encode = msgspec.json.Encoder().encode
TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S%z"])


@click.command()
@click.option("--project", help="Only events of the project with this id.")
@click.option("--request", help="Only events of the request with this id.")
@click.option("--stream", help="Only events of this stream, such as key-key_…")
@click.option("--type", "kind", help="Only events of this type, such as RequestCompleted.")
@click.option("--since", type=TIME, help="Only events at or after this time (UTC).")
@click.option("--until", type=TIME, help="Only events before this time (UTC).")
@click.option("--after", type=click.IntRange(0), default=0, help="Only events after this position in the log.")
@click.option("--limit", type=click.IntRange(1), help="Print at most this number of events.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
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
    """Print events in the order of the log. Without options, print the whole log."""
    selection = Selection(
        project_id=project,
        stream=request_stream(request) if request is not None else stream,
        type=kind,
        since=_in_utc(since),
        until=_in_utc(until),
    )

    async def run(session: AdminSession) -> None:
        position, left = after, limit
        bounds = await bounds_of(session.pool, selection)
        while left is None or left > 0:
            batch_size = READ_BATCH_EVENTS if left is None else min(left, READ_BATCH_EVENTS)
            events = await session.log.read_selected(selection, after=position, limit=batch_size, bounds=bounds)
            for stored in events:
                if as_json:
                    show_json(_encode(stored).decode())
                else:
                    show(_line(stored))
            if len(events) < batch_size:
                return
            position = events[-1].position
            left = left - len(events) if left is not None else None

    run_in_session(data_dir, run)


def _line(stored: StoredEvent) -> str:
    at = f"{stored.at:%Y-%m-%dT%H:%M:%S.%f}Z"
    data = _encode(stored.event).decode()
    return f"{stored.position:>8} {at} {stored.project_id} {stored.stream}@{stored.version} {stored.type} {data}"


def _in_utc(moment: datetime | None) -> datetime | None:
    """Add UTC to a time without a time zone."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
