"""A request, a point at which a process dies of it, and what its caller gets: the cases of the crash matrix."""

import asyncio
import time
from typing import Any

import aiohttp
from msgspec import Struct

from tests.support.fleet import Fleet, Kind
from tests.support.gateway import Client
from tests.support.load import ANSWERED, BROKE_OFF, CUT_OFF, Asked, ask
from tests.support.streams import CHAT_GPT, MESSAGES_GPT, NATIVE_GPT, StreamCall, Streamer, digest_of
from tests.support.waiting import eventually_so

SERVED_WITHIN_S = 60
CRASHED_WITHIN_S = 60


def kind_of(point: str) -> Kind:
    """Return the kind of process that has a point."""
    kind = point.partition(".")[0]
    assert kind in ("api", "worker", "projector")
    return kind


class Way(Struct, frozen=True, kw_only=True):
    """How a request is made."""

    call: StreamCall
    is_stream: bool = False
    is_cached: bool = False
    is_known: bool = False
    """Its answer is in the cache already."""


WAYS = {
    "chat": Way(call=NATIVE_GPT),
    "cached": Way(call=NATIVE_GPT, is_cached=True),
    "hit": Way(call=NATIVE_GPT, is_cached=True, is_known=True),
    "stream": Way(call=CHAT_GPT, is_stream=True),
    "translated stream": Way(call=MESSAGES_GPT, is_stream=True),
}


class Case(Struct, frozen=True, kw_only=True):
    """A crash, and what may come of it."""

    point: str
    way: str = "chat"
    words: str = ""
    """Steering words for the provider."""
    nth: int = 1
    delay_s: float = 0
    then: str | None = None
    """A second point, at which the process dies that takes the request over."""
    outcome: str = ANSWERED
    """See `Asked`."""
    calls: int = 1
    """The most calls that the provider may get."""
    is_accepted: bool = True
    """The request was admitted, so it has an end in the log."""

    @property
    def name(self) -> str:
        delayed = f" + {self.delay_s} s" if self.delay_s else ""
        after = f", then {self.then}" if self.then is not None else ""
        return f"{self.point}{delayed}{after}, {self.way}"


API = (
    Case(point="api.before_admit", outcome=CUT_OFF, calls=0, is_accepted=False),
    Case(point="api.after_admit", outcome=CUT_OFF, calls=0),
    Case(point="api.after_admit", way="stream", outcome=CUT_OFF, calls=0),
    Case(point="api.after_publish", outcome=CUT_OFF),
    Case(point="api.after_publish", way="stream", outcome=CUT_OFF),
    Case(point="api.after_answer", outcome=CUT_OFF),
    Case(point="api.after_answer", way="cached", outcome=CUT_OFF),
    Case(point="api.after_answer", way="stream", outcome=CUT_OFF),
    Case(point="api.after_part", way="stream", nth=3, outcome=CUT_OFF, words="[[pace=20]]"),
    Case(point="api.after_hit", way="hit", outcome=CUT_OFF),
)
WORKER = (
    Case(point="worker.delivered"),
    Case(point="worker.after_claim"),
    Case(point="worker.after_claim", way="stream"),
    Case(point="worker.after_claim", then="worker.after_lost"),
    Case(point="worker.before_call", delay_s=0.4, words="[[delay=1500]]", calls=2),
    Case(point="worker.before_call", delay_s=0.4, words="[[delay=1500]]", calls=2, way="stream"),
    Case(point="worker.after_call", calls=2),
    Case(point="worker.after_call", calls=2, way="cached"),
    Case(point="worker.after_body", calls=2),
    Case(point="worker.after_part", way="stream", nth=3, words="[[pace=20]]", outcome=BROKE_OFF),
    Case(point="worker.after_part", way="translated stream", nth=3, words="[[pace=20]]", outcome=BROKE_OFF),
    Case(point="worker.after_stream", way="stream", outcome=BROKE_OFF),
    Case(point="worker.after_append"),
    Case(point="worker.after_append", way="cached"),
    Case(point="worker.after_append", way="stream", outcome=BROKE_OFF),
    Case(point="worker.after_commit"),
    Case(point="worker.after_commit", way="cached"),
    Case(point="worker.after_commit", way="stream", outcome=BROKE_OFF),
    Case(point="worker.after_failure", words="[[once=500]]", calls=2),
    Case(point="worker.after_failure", words="[[once=500]]", calls=2, way="stream"),
    Case(point="worker.after_next", words="[[once=500]]", calls=2),
)
PROJECTOR = (
    Case(point="projector.before_fold"),
    Case(point="projector.during_fold"),
    Case(point="projector.after_fold"),
    Case(point="projector.after_head"),
    Case(point="projector.after_alert", words=f"{'x' * 4_000} [[count=1]]"),
)
"""The last one takes most of `ALERTING_BUDGET_USD`, which raises an alert."""
ALERTING_BUDGET_USD = 0.001
SWEPT = (
    Case(point="api.after_admit", then="projector.during_sweep", outcome=CUT_OFF, calls=0),
    Case(point="api.after_admit", then="projector.after_sweep", outcome=CUT_OFF, calls=0),
    Case(point="worker.after_claim", then="projector.during_sweep", outcome="504", calls=0),
)
"""A process dies of a request that only the sweeper ends, and then the projector dies of that. No worker runs."""
JOB = (
    Case(point="api.after_accept"),
    Case(point="api.after_admit"),
    Case(point="api.after_start"),
    Case(point="api.after_publish"),
    Case(point="api.after_answer"),
    Case(point="api.after_end"),
    Case(point="worker.after_call", calls=2),
    Case(point="worker.after_append"),
)
"""A process dies of an asynchronous job, which succeeds all the same."""
WITHDRAWN = "api.after_withdrawal"
BATCHES = {"api": API, "worker": WORKER, "projector": PROJECTOR}
_SOME = (
    ("api.after_admit", "chat"),
    ("api.after_publish", "chat"),
    ("api.after_part", "stream"),
    ("worker.after_claim", "stream"),
    ("worker.after_call", "cached"),
    ("worker.after_append", "chat"),
    ("worker.after_part", "stream"),
    ("projector.during_fold", "chat"),
)
SOME = tuple(case for batch in BATCHES.values() for case in batch if (case.point, case.way) in _SOME and not case.then)
"""Those of every test run."""


class Result(Struct, frozen=True, kw_only=True):
    """What came of a case."""

    case: Case
    asked: Asked
    waited_s: float
    """From the death until the caller had its outcome."""
    served_s: float
    """From the death until a new request was answered, by another API process if one has died."""

    def __str__(self) -> str:
        seen = f"{self.asked.outcome} {self.asked.error}".strip()
        return f"{self.case.name}: {seen} after {self.waited_s:.2f} s, others after {self.served_s:.2f} s"


async def run_case(fleet: Fleet, session: aiohttp.ClientSession, key: str, case: Case, number: int) -> Result:
    """Arm the point, send the request, and wait for the death and for what the caller gets."""
    await fleet.until_some("api", 2)
    await fleet.until_some("worker", 2)
    way = WAYS[case.way]
    prompt = f"case {number}: {case.name} {case.words}"
    streamer = Streamer(session, fleet.ready_address(), key)
    if way.is_known:
        assert (await ask(streamer, way.call, prompt, is_cached=True)).outcome == ANSWERED
    fleet.arm(case.point, nth=case.nth, delay_s=case.delay_s)
    asking = asyncio.create_task(ask(streamer, way.call, prompt, is_stream=way.is_stream, is_cached=way.is_cached))
    await fleet.until_crashed(kind_of(case.point))
    if case.then is not None:
        fleet.arm(case.then)
        await fleet.until_crashed(kind_of(case.then), within_s=CRASHED_WITHIN_S)
    died_s = time.monotonic()
    other = Streamer(session, fleet.ready_address(), key)
    serving = asyncio.create_task(until_served(other, f"after case {number}", died_s))
    asked = await asking
    waited_s = asked.ended_s - died_s
    return Result(case=case, asked=asked, waited_s=waited_s, served_s=await serving)


async def run_swept(fleet: Fleet, session: aiohttp.ClientSession, key: str, case: Case, number: int) -> Result:
    """Run a case without a worker that could take the request over."""
    (worker,) = fleet.members["worker"]
    await fleet.until_some("worker", 1)
    worker.is_held_back = True
    try:
        way, prompt = WAYS[case.way], f"swept {number}: {case.name}"
        assert case.then is not None
        fleet.arm(case.point)
        asking = asyncio.create_task(ask(Streamer(session, fleet.ready_address(), key), way.call, prompt))
        await fleet.until_crashed(kind_of(case.point))
        died_s = time.monotonic()
        fleet.arm(case.then)
        await fleet.until_crashed(kind_of(case.then), within_s=CRASHED_WITHIN_S)
        asked = await asking
        swept_s = time.monotonic() - died_s
    finally:
        worker.is_held_back = False
    return Result(case=case, asked=asked, waited_s=asked.ended_s - died_s, served_s=swept_s)


async def run_job(fleet: Fleet, session: aiohttp.ClientSession, key: str, case: Case, number: int) -> Result:
    """Have a job accepted whose process dies, and wait until it has ended. Nothing is asked of the caller again."""
    await fleet.until_some("api", 2)
    prompt = f"job {number}: {case.name}"
    body = {
        "operation": "chat",
        "customId": digest_of(prompt),
        "request": {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": prompt}],
            "metadata": {"prompt": digest_of(prompt)},
            "cache": False,
        },
    }
    fleet.arm(case.point)
    began_s = time.monotonic()
    asking = asyncio.create_task(_call(session, fleet.ready_address(), key, "POST", "/jobs", body))
    await fleet.until_crashed(kind_of(case.point))
    died_s = time.monotonic()
    await asking
    job: dict[str, Any] = {}

    async def has_ended() -> bool:
        nonlocal job
        found = await _call(session, fleet.ready_address(), key, "GET", "/jobs")
        mine = [one for one in (found or {}).get("jobs", ()) if one["customId"] == digest_of(prompt)]
        job = mine[0] if mine else {}
        return job.get("status") in ("succeeded", "failed")

    await eventually_so(has_ended, within_s=SERVED_WITHIN_S)
    ended_s = time.monotonic()
    outcome = ANSWERED if job["status"] == "succeeded" else job["status"]
    asked = Asked(prompt=prompt, outcome=outcome, error=str(job["error"] or ""), began_s=began_s, ended_s=ended_s)
    return Result(case=case, asked=asked, waited_s=ended_s - died_s, served_s=ended_s - died_s)


async def _call(
    session: aiohttp.ClientSession, address: str, key: str, method: str, path: str, body: Any = None
) -> Any | None:
    """Return the data of an answer; None if there is none, because the process has died."""
    try:
        _, answer, _ = await Client(session, address, key).call(method, path, body)
    except (aiohttp.ClientError, OSError):
        return None
    return answer.get("data")


async def until_served(streamer: Streamer, name: str, since_s: float) -> float:
    """Send a request every tenth of a second until one is answered. Return the seconds since a moment."""
    numbers = iter(range(10_000))

    async def is_served() -> bool:
        asked = await ask(streamer, NATIVE_GPT, f"{name}, {next(numbers)}")
        return asked.outcome == ANSWERED

    await eventually_so(is_served, within_s=SERVED_WITHIN_S)
    return time.monotonic() - since_s
