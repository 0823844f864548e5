"""Writes the Grafana dashboards in deploy/grafana from the tables below: `python -m deploy.dashboards`.

Each panel is a row: its title, what it answers, its unit, and the queries with their legends. `$RATE` is Grafana's own
interval for rates. The same queries work with one page for all processes and with a page for each: they sum over both.
"""

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

FOLDER = Path(__file__).parent / "grafana"
SCHEMA_VERSION = 39
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
"""Of a panel, in Grafana's grid of 24 columns."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_FAILED = '{outcome!~"answered|cut|PROVIDER_REJECTED|CALLER_LEFT|lost_caller_left"}'
"""Attempts that failed by no fault of their caller."""


class Panel(Struct, frozen=True):
    """One graph."""

    title: str
    says: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """Each with its legend."""


def _rate(metric: str, by: str = "", labels: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{labels}[$RATE]))"


def _quantile(part: float, histogram: str, by: str = "", labels: str = "") -> str:
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({part}, sum by ({groups}) (rate({histogram}_bucket{labels}[$RATE])))"


def _quantiles(histogram: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"p{part * 100:.0f}", _quantile(part, histogram)) for part in (0.5, 0.95, 0.99))


def _or_zero(query: str) -> str:
    """A query that has an answer while nothing of the kind has happened."""
    return f"{query} or vector(0)"


def _ratio(part: str, whole: str) -> str:
    return f"({part}) / ({whole} > 0)"


_INFERENCE = "gateway_inference_requests_total"
DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "overview": (
        "Gateway: overview",
        (
            Panel(
                "Requests for a model",
                "By how they went.",
                "reqps",
                (("{{outcome}}", _rate(_INFERENCE, "outcome")),),
            ),
            Panel(
                "Failed requests",
                "The part of them whose caller got an error, and the part that is the gateway's or a provider's.",
                "percentunit",
                (
                    (
                        "all",
                        _ratio(_or_zero(_rate(_INFERENCE, labels='{outcome!~"ok|CALLER_LEFT"}')), _rate(_INFERENCE)),
                    ),
                    ("5xx", _ratio(_or_zero(_rate(_INFERENCE, labels='{status=~"5.."}')), _rate(_INFERENCE))),
                ),
            ),
            Panel("Latency", "To the last byte of an answer.", "s", _quantiles("gateway_inference_seconds")),
            Panel("Time to the first token", "Of streams.", "s", _quantiles("gateway_time_to_first_token_seconds")),
            Panel(
                "Spending",
                "US dollars an hour, at the present rate.",
                "currencyUSD",
                (
                    ("spent", f"3600 * {_rate('gateway_cost_usd_total')}"),
                    ("saved by the cache", _or_zero(f"3600 * {_rate('gateway_saved_usd_total')}")),
                ),
            ),
            Panel(
                "Cache",
                "Answers by what the cache did.",
                "reqps",
                (("{{result}}", _rate("gateway_cache_requests_total", "result")),),
            ),
            Panel(
                "Refused",
                "By admission, and why; full: only what others hold at the moment stands in the way.",
                "reqps",
                (("{{reason}}", _rate("gateway_refusals_total", "reason")),),
            ),
            Panel(
                "Budgets",
                "Windows of today and of this month that are spent to so many percent.",
                "none",
                (("{{percent}} %", "max by (percent) (gateway_budgets_reached)"),),
            ),
            Panel(
                "In order",
                "1 for each part that every process finds in order.",
                "none",
                (("{{part}}", "min by (part) (gateway_up)"),),
            ),
        ),
    ),
    "spend": (
        "Gateway: spend",
        (
            Panel(
                "Spent in the last 24 hours",
                "By model, in US dollars.",
                "currencyUSD",
                (("{{provider}}/{{model}}", "sum by (provider, model) (increase(gateway_cost_usd_total[24h]))"),),
            ),
            Panel(
                "Spending by model",
                "US dollars an hour.",
                "currencyUSD",
                (("{{provider}}/{{model}}", f"3600 * {_rate('gateway_cost_usd_total', 'provider, model')}"),),
            ),
            Panel(
                "Saved by the cache",
                "US dollars an hour.",
                "currencyUSD",
                (("{{provider}}", f"3600 * {_rate('gateway_saved_usd_total', 'provider')}"),),
            ),
            Panel(
                "Tokens",
                "A second, by class; reasoning is a part of output.",
                "none",
                (("{{class}}", _rate("gateway_tokens_total", "class")),),
            ),
            Panel(
                "Tokens from the provider's cache",
                "The part of what was read that its own cache had.",
                "percentunit",
                (
                    (
                        "{{provider}}",
                        _ratio(
                            _rate("gateway_tokens_total", "provider", '{class=~"cache_read|cache_audio_read"}'),
                            _rate("gateway_tokens_total", "provider", '{class!~"output|output_audio|reasoning"}'),
                        ),
                    ),
                ),
            ),
            Panel(
                "Held",
                "What attempts in flight hold of budgets, in US dollars.",
                "currencyUSD",
                (("held", "max(gateway_held_usd)"),),
            ),
            Panel(
                "The fullest budget",
                "The part of it that is spent.",
                "percentunit",
                (("fullest", "max(gateway_budget_fullest_ratio)"),),
            ),
            Panel(
                "Assumed",
                "What is assumed of attempts whose outcome is not known, in the last 24 hours, and what became known.",
                "currencyUSD",
                (
                    ("assumed", "sum(increase(gateway_assumed_usd_total[24h]))"),
                    ("settled", "sum(increase(gateway_settled_usd_total[24h]))"),
                ),
            ),
            Panel(
                "Answers with a doubtful cost",
                "Without a known price, or above what they held.",
                "none",
                (
                    ("no price: {{model}}", "sum by (model) (increase(gateway_unpriced_answers_total[1h]))"),
                    ("above its hold: {{model}}", "sum by (model) (increase(gateway_answers_over_hold_total[1h]))"),
                ),
            ),
        ),
    ),
    "providers": (
        "Gateway: providers",
        (
            Panel(
                "Attempts",
                "By provider and outcome.",
                "reqps",
                (("{{provider}} {{outcome}}", _rate("gateway_attempts_total", "provider, outcome")),),
            ),
            Panel(
                "Failed attempts",
                "The part that failed by no fault of the caller.",
                "percentunit",
                (
                    (
                        "{{provider}}",
                        _ratio(
                            _rate("gateway_attempts_total", "provider", _FAILED),
                            _rate("gateway_attempts_total", "provider"),
                        ),
                    ),
                ),
            ),
            Panel(
                "Calls, p95",
                "How long a provider takes to its last byte.",
                "s",
                (
                    (
                        "{{provider}}",
                        _quantile(0.95, "gateway_provider_call_seconds", "provider", '{outcome="answered"}'),
                    ),
                ),
            ),
            Panel(
                "Calls, p50",
                "How long a provider takes to its last byte.",
                "s",
                (
                    (
                        "{{provider}}",
                        _quantile(0.5, "gateway_provider_call_seconds", "provider", '{outcome="answered"}'),
                    ),
                ),
            ),
            Panel(
                "First event of a stream, p95",
                "How long a provider takes to it.",
                "s",
                (("{{provider}}", _quantile(0.95, "gateway_provider_first_byte_seconds", "provider")),),
            ),
            Panel(
                "Retries and fallbacks",
                "Attempts after the first, and those that went to another target.",
                "reqps",
                (
                    ("retries: {{provider}}", _rate("gateway_retries_total", "provider")),
                    ("left: {{provider}}", _rate("gateway_fallbacks_total", "provider")),
                ),
            ),
            Panel(
                "Open circuits",
                "Models and credentials of a provider that are left alone.",
                "none",
                (("{{provider}}", "max by (provider) (gateway_provider_open_circuits)"),),
            ),
            Panel(
                "Circuits that opened",
                "In the last hour, and why.",
                "none",
                (("{{reason}}", "sum by (reason) (increase(gateway_provider_circuit_openings_total[1h]))"),),
            ),
            Panel(
                "Calls under way",
                "Jobs that workers run, and the slots that there are.",
                "none",
                (
                    ("running: {{pool}}", "sum by (pool) (gateway_worker_busy_slots)"),
                    ("slots: {{pool}}", "sum by (pool) (gateway_worker_slots)"),
                ),
            ),
        ),
    ),
    "engine": (
        "Gateway: engine",
        (
            Panel(
                "Read models behind the log",
                "Age of the oldest event that is not folded.",
                "s",
                (("{{projection}}", "max by (projection) (gateway_projection_lag_seconds)"),),
            ),
            Panel(
                "Events to fold",
                "By read model.",
                "none",
                (("{{projection}}", "max by (projection) (gateway_projection_lag_events)"),),
            ),
            Panel(
                "Queue",
                "Jobs that no worker has pulled, by lane.",
                "none",
                (("{{lane}}", "max by (lane) (gateway_queue_jobs)"),),
            ),
            Panel(
                "Age of the oldest job",
                "By lane, whether a worker has it or not.",
                "s",
                (("{{lane}}", "max by (lane) (gateway_queue_oldest_seconds)"),),
            ),
            Panel(
                "The queue's stream",
                "Bytes on the broker's disk.",
                "bytes",
                (("bytes", "max(gateway_queue_stream_bytes)"),),
            ),
            Panel(
                "Asynchronous jobs",
                "That have not ended.",
                "none",
                (("{{state}}", "max by (state) (gateway_async_jobs)"),),
            ),
            Panel(
                "In the API's hands",
                "Requests with workers, and those that wait for their budget.",
                "none",
                (
                    ("in flight", "sum(gateway_requests_in_flight)"),
                    ("waiting", "sum(gateway_requests_waiting)"),
                    ("connections", "sum(gateway_connections)"),
                ),
            ),
            Panel(
                "Items of a batch",
                "On average, by what is done with them.",
                "none",
                (
                    (
                        "{{batch}}",
                        _ratio(_rate("gateway_batch_items_sum", "batch"), _rate("gateway_batch_items_count", "batch")),
                    ),
                ),
            ),
            Panel(
                "A batch at PostgreSQL, p95",
                "Round trip and commit.",
                "s",
                (("{{batch}}", _quantile(0.95, "gateway_batch_seconds", "batch")),),
            ),
            Panel(
                "Connections to PostgreSQL",
                "In use, of each process's pool.",
                "percentunit",
                (
                    (
                        "{{instance}} {{process}}",
                        'max by (instance, process) (gateway_pool_connections{state="busy"}) '
                        "/ max by (instance, process) (gateway_pool_max_connections)",
                    ),
                ),
            ),
            Panel(
                "Processor",
                "Cores in use, by process.",
                "none",
                (("{{instance}} {{process}}", _rate("process_cpu_seconds_total", "instance, process")),),
            ),
            Panel(
                "Memory",
                "Resident, by process.",
                "bytes",
                (("{{instance}} {{process}}", "sum by (instance, process) (process_resident_memory_bytes)"),),
            ),
            Panel(
                "Appends whose outcome was not known",
                "In the last hour: a connection died under way.",
                "none",
                (("appends", "sum(increase(gateway_unknown_appends[1h]))"),),
            ),
            Panel(
                "Bytes in hand",
                "Of requests and answers.",
                "bytes",
                (("bytes", "sum(gateway_bytes_in_hand)"),),
            ),
            Panel(
                "The log's signed head",
                "Its position.",
                "none",
                (("position", "max(gateway_log_signed_position)"),),
            ),
        ),
    ),
}


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"ai-gateway-{name}",
        "title": title,
        "tags": ["ai-gateway"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "links": [
            {"type": "dashboards", "tags": ["ai-gateway"], "title": "Gateway", "asDropdown": False, "keepTime": True}
        ],
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": DATASOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": query.replace("$RATE", "$__rate_interval"),
                "legendFormat": legend,
            }
            for place, (legend, query) in enumerate(panel.queries)
        ],
    }


def written(name: str) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(dashboard(name), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(written(name), encoding="utf-8")


if __name__ == "__main__":
    main()
