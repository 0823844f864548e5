"""Budget alerts: raised once when a window reaches a threshold, and then sent to the project's webhook URL."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import structlog

from domain.budget import day_of, window_start
from domain.errors import Overloaded
from domain.events import AlertTold, BudgetAlertRaised, Event, StoredEvent, alert_stream
from infra.crash_points import reach
from infra.database import Connection, Pool
from infra.event_log import Commit, Conflict, EventLog
from infra.jobs import JobQueue, PublishUnknown

THRESHOLDS_PERCENT = (50, 80, 100)
MAX_RAISED = 500
"""In one go, the projects' in turn."""
MAX_QUEUED_PER_PROJECT = 256
"""Alerts of a project that wait for its receiver. Others are sent when `redeliver` finds them, so that nobody's queue
behind thousands of one project's.
"""
REDELIVER_AFTER = timedelta(hours=1)
"""Longer than all deliveries of a message take: an alert that is still undelivered was lost with the queue."""
REDELIVER_UNTIL = timedelta(hours=24)

log = structlog.get_logger(__name__)


class Alerts:
    """Folds alerts, and the outcome of their delivery."""

    name = "alerts"
    tables = ("budget_alerts",)
    reads: frozenset[type[Event]] = frozenset({BudgetAlertRaised, AlertTold})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Write one row at a time: alerts are few."""
        for stored in events:
            match stored.event:
                case BudgetAlertRaised() as alert:
                    await connection.execute(
                        f"INSERT INTO budget_alerts{suffix} (alert, project_id, scope, scope_id, period, starts_on, "  # noqa: S608 - a constant
                        "threshold_percent, limit_nano_usd, taken_nano_usd, raised_at) "
                        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                        stored.stream,
                        stored.project_id,
                        alert.scope,
                        alert.scope_id,
                        alert.period,
                        alert.starts_on,
                        alert.threshold_percent,
                        alert.limit_nano_usd,
                        alert.taken_nano_usd,
                        stored.at,
                    )
                case AlertTold() as event:
                    await connection.execute(
                        f"UPDATE budget_alerts{suffix} SET told = $2 WHERE alert = $1",  # noqa: S608 - a constant
                        event.alert,
                        event.outcome,
                    )
                case _:
                    continue


async def raise_alerts(pool: Pool, event_log: EventLog, queue: JobQueue, now: datetime) -> int:
    """Raise and publish the alerts that are due, at most `MAX_RAISED`. Return the number of alerts raised."""
    rows = await pool.fetch(_DUE, *_windows(now), list(THRESHOLDS_PERCENT), MAX_RAISED)
    queued = Counter(dict(await pool.fetch(_QUEUED, now - REDELIVER_AFTER))) if rows else Counter[str]()
    raised = 0
    for row in rows:
        alert = BudgetAlertRaised(**{name: row[name] for name in BudgetAlertRaised.__struct_fields__})
        stream = alert_stream(alert)
        commit = Commit(stream=stream, expected_version=0, project_id=row["project_id"], at=now, events=(alert,))
        try:
            await event_log.append(commit)
        except Conflict:  # another projector was first, or the projection has not folded it yet
            continue
        raised += 1
        reach("projector.after_alert")
        log.info("budget_alert", scope=alert.scope, scope_id=alert.scope_id, percent=alert.threshold_percent)
        queued[row["project_id"]] += 1
        if queued[row["project_id"]] <= MAX_QUEUED_PER_PROJECT:
            await _publish(queue, stream, row["project_id"], stream)
    return raised


async def redeliver(pool: Pool, queue: JobQueue, now: datetime) -> None:
    """Publish again the alerts that are undelivered after `REDELIVER_AFTER`: their messages were lost, or not sent."""
    rows = await pool.fetch(
        _UNDELIVERED, now - REDELIVER_UNTIL, now - REDELIVER_AFTER, MAX_QUEUED_PER_PROJECT, MAX_RAISED
    )
    for row in rows:
        await _publish(queue, row["alert"], row["project_id"], f"{row['alert']}/{now:%Y%m%d%H}")


async def undelivered_alert(pool: Pool, alert: str) -> dict[str, Any] | None:
    """Return an alert with its project's webhook URL; None if it has been delivered, or the project has no URL."""
    row = await pool.fetchrow(
        "SELECT a.*, p.alert_url FROM budget_alerts a JOIN projects p USING (project_id) "
        "WHERE a.alert = $1 AND a.told IS NULL AND p.alert_url IS NOT NULL",
        alert,
    )
    return dict(row) if row is not None else None


async def _publish(queue: JobQueue, alert: str, project_id: str, message_id: str) -> None:
    try:
        await queue.publish_alert(alert, project_id, message_id)
    except (Overloaded, PublishUnknown) as error:  # `redeliver` publishes it again
        log.warning("alert_unpublished", alert=alert, message=error.message)


def _windows(now: datetime) -> tuple[date, date]:
    today = day_of(now)
    return today, window_start(today, "month")


_DUE = """
    SELECT b.project_id, b.scope, b.scope_id, b.period, b.starts_on, t.percent AS threshold_percent,
           l.budget AS limit_nano_usd, l.taken AS taken_nano_usd
    FROM budget_balances b
    LEFT JOIN api_keys k ON b.scope = 'key' AND k.key_id = b.scope_id
    LEFT JOIN projects p ON b.scope = 'project' AND p.project_id = b.scope_id
    CROSS JOIN LATERAL (
        SELECT CASE b.period
                   WHEN 'day' THEN coalesce(k.daily_budget_nano_usd, p.daily_budget_nano_usd)
                   ELSE coalesce(k.monthly_budget_nano_usd, p.monthly_budget_nano_usd)
               END AS budget,
               least(b.spent_nano_usd::numeric + b.assumed_nano_usd, 9000000000000000000)::bigint AS taken
    ) AS l
    CROSS JOIN unnest($3::integer[]) AS t (percent)
    WHERE (b.period, b.starts_on) IN (('day', $1::date), ('month', $2::date))
      AND l.budget > 0 AND l.taken::numeric * 100 >= l.budget::numeric * t.percent
      AND NOT EXISTS (
          SELECT 1 FROM budget_alerts a
          WHERE a.scope = b.scope AND a.scope_id = b.scope_id AND a.period = b.period AND a.starts_on = b.starts_on
            AND a.threshold_percent = t.percent
      )
    ORDER BY row_number() OVER (PARTITION BY b.project_id ORDER BY b.scope, b.scope_id, t.percent), b.project_id
    LIMIT $4
"""
_QUEUED = "SELECT project_id, count(*) FROM budget_alerts WHERE told IS NULL AND raised_at > $1 GROUP BY project_id"
_UNDELIVERED = """
    SELECT alert, project_id FROM (
        SELECT alert, project_id, row_number() OVER (PARTITION BY project_id ORDER BY raised_at, alert) AS turn
        FROM budget_alerts WHERE told IS NULL AND raised_at > $1 AND raised_at < $2
    ) AS undelivered
    WHERE turn <= $3 ORDER BY turn, project_id LIMIT $4
"""
