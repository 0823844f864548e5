"""The page of all figures, read from the registries that the processes serve."""

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from api.metrics import Metrics
from projections.figures import ProjectorFigures
from workers.figures import WorkerInstruments

_INTRODUCTION = """\
Every process serves its figures at `/metrics`, in Prometheus' text format. Under `gateway up` the API's page has
those of all processes, each with the label `process`, and `gateway_process_up{process}`.
`docs/how-to/watch-the-gateway.md` says how to scrape them, which to watch, and what the alerts mean.

No figure has a key, a project or a user as its label. `provider` and `model` have at most 64 and 256 values in a
process, and `other` for the rest; a model gets its own once it has answered. Figures of the database and of the queue
are the same in every process that has them: take the `max`, not the `sum`.
"""


def lines() -> list[str]:
    """Return the page: a table for each kind of process."""
    tables = (
        ("API processes", Metrics().registry),
        ("Workers", WorkerInstruments().registry),
        ("Projectors", ProjectorFigures().registry),
    )
    found = [_INTRODUCTION]
    for title, registry in tables:
        found += [f"## {title}", "", "| metric | type | labels | |", "|---|---|---|---|", *_rows(registry), ""]
    return [
        *found,
        "Each has the figures of its process too: `process_cpu_seconds_total`, `process_resident_memory_bytes`,",
        "`process_open_fds` and the like.",
    ]


def _rows(registry: CollectorRegistry) -> list[str]:
    metrics = sorted(
        {one for one in registry._collector_to_names if isinstance(one, MetricWrapperBase)},  # noqa: SLF001 - it lists them nowhere else
        key=lambda metric: metric.describe()[0].name,
    )
    return [_row(metric) for metric in metrics]


def _row(metric: MetricWrapperBase) -> str:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001 - as above
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |"
