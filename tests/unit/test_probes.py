"""What a process says of itself on its metrics' address."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import Metrics, route_of
from api.request_facts import RequestFacts
from infra.probes import state_of
from projections.figures import ProjectorFigures
from projections.runner import LEAD_TIMEOUT_S
from projections.watch import GRACE_S, Watch
from workers.figures import WorkerFigures, WorkerInstruments

CHORE_INTERVAL_S = 5.0


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def watch_of(clock: Clock, turned_at_s: float | None = None) -> tuple[Watch, Any]:
    runner: Any = SimpleNamespace(turned_at_s=turned_at_s)
    other: Any = None  # what is late is no question to them
    return Watch(other, other, runner, other, ProjectorFigures(), clock), runner


async def test_a_chore_that_fails_or_hangs_is_late() -> None:
    clock = Clock()
    watch, _ = watch_of(clock)
    fails = False

    async def sweep_once() -> None:
        if fails:
            raise OSError

    chore = watch.chore(CHORE_INTERVAL_S, sweep_once)
    clock.now_s += 2 * CHORE_INTERVAL_S + GRACE_S
    assert watch.late() == []
    clock.now_s += 1
    assert watch.late() == ["sweep_once"]
    await chore()
    assert watch.late() == []
    fails = True
    clock.now_s += 2 * CHORE_INTERVAL_S + GRACE_S + 1
    with pytest.raises(OSError):  # noqa: PT011 - the chore's own
        await chore()
    assert watch.late() == ["sweep_once"]


@pytest.mark.parametrize(("state", "figures"), [("ok", (0, 0)), ("refused", (1, 0)), ("not anchored", (0, 1))])
async def test_a_projector_that_does_not_sign_or_anchor_shows_it(
    state: str, figures: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_pool: object) -> str:
        return "away"

    monkeypatch.setattr("projections.watch.state_of", away)
    signer: Any = SimpleNamespace(state=state, signed_position=42)
    other: Any = SimpleNamespace(turned_at_s=None, is_connected=True)
    watch = Watch(other, other, other, signer, ProjectorFigures(), Clock())
    assert (await watch.report()).details["log_heads"] == state
    families = text_string_to_metric_families((await watch.metrics()).decode())
    shown = {family.name: family.samples[0].value for family in families if "_log_" in family.name}
    assert shown["gateway_log_signed_position"] == 42
    assert (shown["gateway_log_head_refused"], shown["gateway_log_head_not_anchored"]) == figures


def test_a_leader_that_does_not_turn_to_the_log_is_late_and_a_follower_is_not() -> None:
    clock = Clock()
    watch, runner = watch_of(clock, turned_at_s=100.0)
    clock.now_s += LEAD_TIMEOUT_S
    assert watch.late() == []
    clock.now_s += 1
    assert watch.late() == ["fold"]
    runner.turned_at_s = None
    assert watch.late() == []


def test_the_number_of_series_does_not_grow_with_callers_or_paths() -> None:
    metrics = Metrics()
    for number in range(500):
        metrics.observe(route_of(f"/v1/objects/{number}"), "404", 0.1, RequestFacts())
        metrics.observe(route_of(f"/api/v1/requests/req_{number}"), "200", 0.1, RequestFacts())
        metrics.observe(route_of(f"/v1/models/tenant-{number}"), "200", 0.1, RequestFacts())
    labels = {
        tuple(sorted(sample.labels.items()))
        for family in text_string_to_metric_families(exposition(metrics))
        for sample in family.samples
        if family.name == "gateway_requests"
    }
    assert labels == {
        (("route", "other"), ("status", "404")),
        (("route", "native"), ("status", "200")),
        (("route", "vendor-models"), ("status", "200")),
    }


def exposition(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


async def test_a_database_that_fails_is_away() -> None:
    class Failing:
        """A pool whose server has gone."""

        async def acquire(self) -> int:
            raise ConnectionResetError

    assert await state_of(Failing()) == "away"  # type: ignore[arg-type]  # all that is asked of it


async def test_a_worker_is_ready_while_jobs_can_come_to_it_and_not_before_or_while_it_drains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ok(_pool: object) -> str:
        return "ok"

    monkeypatch.setattr("workers.figures.state_of", ok)
    stop, part = asyncio.Event(), SimpleNamespace(is_connected=True, states=dict)
    figures = WorkerFigures(part, part, part, part, part, stop, WorkerInstruments())  # type: ignore[arg-type]  # all that is asked of them
    assert not (await figures.report()).is_ready, "it has not begun"
    lane: Any = SimpleNamespace(is_pulling=True)
    figures.loops = (lane, lane)
    assert (await figures.report()).is_ready
    lane.is_pulling = False
    assert (await figures.report()).details["jobs"] == "away"
    lane.is_pulling = True
    stop.set()
    report = await figures.report()
    assert (report.is_ready, report.details["jobs"]) == (False, "draining")
