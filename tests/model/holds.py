"""The protocol of holds as an explicit-state model: the steps of each process on an attempt, in every order.

`successors` yields every possible next step, in any interleaving: of an API process, of two workers at a time, of a
queue that may redeliver at any time, of dying processes, of the sweeper and of the projector. A worker that stands
still is one whose next step comes late: after others have given its attempt up, after the request's end, after that was
counted. `search` visits every reachable state. Each hold and each cost is one unit of money. The steps model
`infra/admission.py` (admit, drop, claim, admit next), `workers/job_handler.py`, `workers/resume.py`,
`workers/attempt_recorder.py`, `workers/settlements.py`, `projections/sweeper.py` and `projections/runner.py`.
"""

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Literal, NamedTuple

Fact = tuple[Literal["lost", "cost", "free", "unknown", "settled", "waived", "completed", "failed"], int]
"""An event of a request's stream, with the number of its attempt. `free`: the attempt failed and cost nothing, or was
given up before the call. `unknown`: its own worker does not know its outcome, and something is assumed. What was
assumed of a lost one is replaced: `settled` by its provider's word, `waived` since it failed after all, for nothing.
"""
RESOLVES = frozenset({"lost", "cost", "free", "unknown"})
"""The facts that release the hold of their attempt."""
CHARGES = frozenset({"cost", "settled", "waived"})
"""The facts that say what an attempt has cost."""


class Mutant(Enum):
    """A variant of the protocol that lacks one rule."""

    CALLS_WITHOUT_CLAIM = "calls without a claim"
    RELEASES_TWICE = "releases a hold whose row is gone"
    TAKES_HOLD_OVER = "makes the next attempt under the lost attempt's hold"
    LOSES_WITHOUT_VERSION = "declares an attempt lost that has its cost"
    ANSWERS_ALTHOUGH_LOST = "ends a request with the answer of an attempt that was declared lost"
    ADMITS_NEXT_UNSEEN = "admits the attempt after a failed one without a look into the log"
    FAILS_ALTHOUGH_LOST = "ends a request with the failure of an attempt that was declared lost"
    SETTLES_TWICE = "takes the provider's word for an attempt that has its cost"


class Bounds(NamedTuple):
    """The limits of a search."""

    limit: int
    requests: int
    deliveries: int
    attempts: int
    workers: int = 2
    has_dispatch: bool = False
    """True if jobs may also be dispatched directly to a worker."""
    has_failures: bool = False
    """True if providers may refuse a call, or break its connection off."""
    has_questions: bool = False
    """True if providers may be asked what a lost attempt has cost."""


class Worker(NamedTuple):
    """A delivery that a worker has."""

    delivery: int
    phase: Literal["delivered", "claimed", "called", "refused", "cut off", "between attempts"]
    attempt: int
    is_direct: bool = False
    """True if the job was dispatched directly, as a first delivery beside the queue's."""


class Row(NamedTuple):
    """A row of `inflight`; delivery 0: unclaimed."""

    attempt: int
    delivery: int


class Request(NamedTuple):
    """The state of one request."""

    api: Literal["new", "admitted", "waiting", "unsure", "gone"] = "new"
    is_queued: bool = False
    deliveries: int = 0
    dispatched: Literal["by the queue", "directly", "directly, then queued again"] = "by the queue"
    workers: tuple[Worker, ...] = ()
    rows: tuple[Row, ...] = ()
    facts: tuple[Fact, ...] = ()
    folded: int = 0
    billed: tuple[int, ...] = ()
    """The numbers of the attempts that the provider has charged for."""

    @property
    def has_ended(self) -> bool:
        return any(kind in ("completed", "failed") for kind, _ in self.facts)

    @property
    def resolved(self) -> set[int]:
        return {attempt for kind, attempt in self.facts if kind in RESOLVES}

    @property
    def charged(self) -> list[int]:
        """The attempts of which the log says what they cost, each as often as it does."""
        return [attempt for kind, attempt in self.facts if kind in CHARGES]


class Money(NamedTuple):
    """The budget window that all requests share."""

    spent: int = 0
    assumed: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        return self.spent + self.assumed + self.held


class State(NamedTuple):
    """The state of the whole system."""

    requests: tuple[Request, ...]
    money: Money


Step = tuple[str, Request, Money]


def search(bounds: Bounds, mutant: Mutant | None = None) -> tuple[int, list[str]]:
    """Visit every reachable state. Return their number, and, if a state has a fault, the steps to it and the fault."""
    start = State((Request(),) * bounds.requests, Money())
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        following = list(successors(state, bounds, mutant))
        fault = fault_of(state, bounds) or (not following and state.money.held and "held when all is quiet")
        if fault:
            return len(came_from), [*_way_to(state, came_from), str(fault)]
        for name, successor in following:
            if successor not in came_from:
                came_from[successor] = (state, name)
                waiting.append(successor)
    return len(came_from), []


def fault_of(state: State, bounds: Bounds) -> str | None:
    """Return the invariant that a state breaks; None if it breaks none."""
    money = state.money
    if money.total > bounds.limit:
        return f"{money} is over the limit"
    if money.held != sum(len(request.rows) for request in state.requests):
        return "held differs from its rows"
    if sum(len(request.billed) for request in state.requests) > money.total:
        return "the provider has charged more than is accounted for"
    for request in state.requests:
        if len(set(request.billed)) < len(request.billed):
            return "an attempt was charged twice"
        if any(request.facts.count(fact) > 1 for fact in request.facts):
            return "a fact stands twice in the log"
        if len(set(request.charged)) < len(request.charged):
            return "the log says twice what an attempt has cost"
        ended_by = [attempt for kind, attempt in request.facts if kind in ("completed", "failed")]
        if len(ended_by) > 1:
            return "a request has ended twice"
        if any(("lost", attempt) in request.facts for attempt in ended_by):
            return "an attempt that was declared lost has ended the request, while another may be answering"
    return None


def successors(state: State, bounds: Bounds, mutant: Mutant | None) -> Iterator[tuple[str, State]]:
    """Yield every possible next step, with the state after it."""
    for index, request in enumerate(state.requests):
        for name, after, money in _steps(request, state.money, bounds, mutant):
            requests = (*state.requests[:index], after, *state.requests[index + 1 :])
            yield f"request {index}: {name}", State(requests, money)


def _steps(request: Request, money: Money, bounds: Bounds, mutant: Mutant | None) -> Iterator[Step]:
    yield from _api_steps(request, money, bounds)
    if request.is_queued and request.deliveries < bounds.deliveries and len(request.workers) < bounds.workers:
        delivered = Worker(request.deliveries + 1, "delivered", 0)
        after = request._replace(deliveries=request.deliveries + 1, workers=(*request.workers, delivered))
        yield "deliver", after, money
    for worker in request.workers:
        yield "a worker dies", _without(request, worker), money
        match worker.phase:
            case "delivered":
                yield from _delivered_steps(request, worker, money, bounds, mutant)
            case "claimed":
                called = _with(request, worker, worker._replace(phase="called"))
                yield "call the provider", called._replace(billed=(*request.billed, worker.attempt)), money
                if bounds.has_failures:
                    yield "the provider refuses", _with(request, worker, worker._replace(phase="refused")), money
            case "called":
                yield "append", _answered(request, worker, mutant), money
                if bounds.has_failures:
                    yield "the connection breaks", _with(request, worker, worker._replace(phase="cut off")), money
            case "refused" | "cut off":
                yield from _failed_steps(request, worker, money, mutant)
            case "between attempts":
                yield _next_step(request, worker, money, bounds, mutant)
    yield from _sweeper_steps(request, money, mutant)
    if bounds.has_questions:
        yield from _question_steps(request, money, mutant)
    if request.folded < len(request.facts):
        yield _fold(request, money, mutant)


def _api_steps(request: Request, money: Money, bounds: Bounds) -> Iterator[Step]:
    match request.api:
        case "new" if money.total < bounds.limit:
            admitted = request._replace(api="admitted", rows=(*request.rows, Row(1, 0)))
            yield "admit", admitted, money._replace(held=money.held + 1)
        case "new":
            yield "refuse", request._replace(api="gone"), money
        case "admitted":
            yield "publish", request._replace(api="waiting", is_queued=True), money
            yield "publish, outcome unknown, landed", request._replace(api="unsure", is_queued=True), money
            yield "publish, outcome unknown, lost", request._replace(api="unsure"), money
            yield "the API process dies", request._replace(api="gone"), money
            if bounds.has_dispatch:
                yield "publish, unconfirmed, dispatch directly", _dispatched(request, is_queued=False), money
        case "waiting" if request.dispatched == "by the queue":
            yield "the API process dies", request._replace(api="gone"), money
            if bounds.has_dispatch and len(request.workers) < bounds.workers:
                yield "dispatch directly", _dispatched(request, is_queued=request.is_queued), money
        case "waiting" if request.dispatched == "directly":
            again = request._replace(dispatched="directly, then queued again", is_queued=True)
            yield "queue again", again._replace(deliveries=max(1, request.deliveries)), money
        case "unsure":
            claimed = tuple(row for row in request.rows if row.delivery)
            dropped = len(request.rows) - len(claimed)
            yield "drop", request._replace(api="gone", rows=claimed), money._replace(held=money.held - dropped)


def _dispatched(request: Request, *, is_queued: bool) -> Request:
    workers = (*request.workers, Worker(1, "delivered", 0, is_direct=True))
    return request._replace(api="waiting", is_queued=is_queued, workers=workers, dispatched="directly")


def _delivered_steps(
    request: Request, worker: Worker, money: Money, bounds: Bounds, mutant: Mutant | None
) -> Iterator[Step]:
    rows, facts = request.rows, request.facts
    unclaimed = next((row for row in rows if not row.delivery), None)
    live = [row for row in rows if row.delivery and row.attempt not in request.resolved]
    if mutant is Mutant.CALLS_WITHOUT_CLAIM:
        newest = max((row.attempt for row in rows), default=1)
        yield "go on unclaimed", _with(request, worker, worker._replace(phase="claimed", attempt=newest)), money
    elif request.has_ended:
        yield "acknowledge: it has ended", _without(request, worker)._replace(is_queued=False), money
    elif unclaimed is not None:
        claimed = _with(request, worker, worker._replace(phase="claimed", attempt=unclaimed.attempt))
        yield "claim", claimed._replace(rows=_marked(rows, unclaimed, worker.delivery)), money
        if request.api == "gone":
            given_up = _without(request, worker)._replace(
                rows=_marked(rows, unclaimed, worker.delivery), is_queued=False
            )
            given_up = given_up._replace(facts=(*facts, ("free", unclaimed.attempt), ("failed", 0)))
            yield "claim, and give up: nobody waits", given_up, money
    elif live and worker.delivery <= live[-1].delivery:
        yield "walk away: a later delivery has it", _without(request, worker), money
    elif live and mutant is Mutant.TAKES_HOLD_OVER:
        claimed = _with(request, worker, worker._replace(phase="claimed", attempt=live[-1].attempt))
        yield "take over", claimed._replace(rows=_marked(rows, live[-1], worker.delivery)), money
    elif live:
        yield "declare lost", request._replace(facts=(*facts, ("lost", live[-1].attempt))), money
        if request.api == "gone":
            ended = request._replace(facts=(*facts, ("lost", live[-1].attempt), ("failed", 0)))
            yield "declare lost, and fail: nobody waits", ended, money
    elif not facts:
        yield "acknowledge: nothing to claim", _without(request, worker)._replace(is_queued=False), money
    elif worker.delivery < max((row.delivery for row in rows), default=0):
        yield "walk away: a later delivery goes on", _without(request, worker), money
    else:
        number = max(attempt for _, attempt in facts) + 1
        if request.api == "gone":
            yield "fail: nobody waits", request._replace(facts=(*facts, ("failed", 0))), money
        if number > bounds.attempts or money.total >= bounds.limit:
            yield "fail", request._replace(facts=(*facts, ("failed", 0))), money
        else:
            claimed = _with(request, worker, worker._replace(phase="claimed", attempt=number))
            after = claimed._replace(rows=(*rows, Row(number, worker.delivery)))
            yield "admit the next attempt", after, money._replace(held=money.held + 1)


def _answered(request: Request, worker: Worker, mutant: Mutant | None) -> Request:
    """Append a response: the attempt's cost, and the request's end if it has not ended and the attempt is not lost."""
    facts = request.facts
    if worker.attempt not in request.charged:
        is_late = request.has_ended or (
            ("lost", worker.attempt) in facts and mutant is not Mutant.ANSWERS_ALTHOUGH_LOST
        )
        ending: tuple[Fact, ...] = () if is_late else (("completed", worker.attempt),)
        facts = (*facts, ("cost", worker.attempt), *ending)
    after = _without(request, worker)._replace(facts=facts)
    is_acknowledged = after.has_ended and not worker.is_direct  # else by the later delivery
    return after._replace(is_queued=request.is_queued and not is_acknowledged)


def _failed_steps(request: Request, worker: Worker, money: Money, mutant: Mutant | None) -> Iterator[Step]:
    """Append how an attempt failed: go on to the next one, or end the request; neither if others have given it up."""
    facts, is_refused = request.facts, worker.phase == "refused"
    if ("lost", worker.attempt) in facts and mutant is not Mutant.FAILS_ALTHOUGH_LOST:
        if is_refused and worker.attempt not in request.charged:
            facts = (*facts, ("waived", worker.attempt))
        yield "append a late failure, and walk away", _without(request, worker)._replace(facts=facts), money
        return
    if worker.attempt not in request.resolved:
        facts = (*facts, ("free" if is_refused else "unknown", worker.attempt))
    if request.has_ended:
        yield "append a failure after the end", _without(request, worker)._replace(facts=facts), money
        return
    between = _with(request, worker, worker._replace(phase="between attempts"))
    yield "append a failure, go on", between._replace(facts=facts), money
    yield "append a failure, end", _ended_by(request._replace(facts=facts), worker), money


def _next_step(request: Request, worker: Worker, money: Money, bounds: Bounds, mutant: Mutant | None) -> Step:
    """Admit the attempt after one that failed, unless another delivery has, or somebody has ended the request."""
    number = worker.attempt + 1
    is_taken = any(row.attempt >= number or row.delivery > worker.delivery for row in request.rows)
    if mutant is not Mutant.ADMITS_NEXT_UNSEEN:
        is_taken = is_taken or request.has_ended or any(attempt >= number for attempt in request.resolved)
    if is_taken:
        return "walk away: others go on", _without(request, worker), money
    if number > bounds.attempts or money.total >= bounds.limit:
        return "end: there is no next attempt", _ended_by(request, worker), money
    claimed = _with(request, worker, worker._replace(phase="claimed", attempt=number))
    after = claimed._replace(rows=(*request.rows, Row(number, worker.delivery)))
    return "admit the attempt after a failed one", after, money._replace(held=money.held + 1)


def _ended_by(request: Request, worker: Worker) -> Request:
    """End a request with the error of a worker's attempt, and acknowledge the delivery."""
    after = _without(request, worker)._replace(facts=(*request.facts, ("failed", worker.attempt)))
    return after._replace(is_queued=request.is_queued and worker.is_direct)


def _question_steps(request: Request, money: Money, mutant: Mutant | None) -> Iterator[Step]:
    """Ask the provider about lost attempts. It knows those that it was called for."""
    for kind, attempt in request.facts:
        is_open = attempt not in request.charged or (
            mutant is Mutant.SETTLES_TWICE and ("settled", attempt) not in request.facts
        )
        if kind == "lost" and attempt in request.billed and is_open:
            settled = request._replace(facts=(*request.facts, ("settled", attempt)))
            yield "take the provider's word", settled, money


def _sweeper_steps(request: Request, money: Money, mutant: Mutant | None) -> Iterator[Step]:
    for row in request.rows:
        careless = mutant is Mutant.LOSES_WITHOUT_VERSION and ("lost", row.attempt) not in request.facts
        if not row.delivery and request.api in ("waiting", "gone"):
            rows = tuple(one for one in request.rows if one != row)
            yield "sweep an unclaimed attempt", request._replace(rows=rows), money._replace(held=money.held - 1)
        elif row.delivery and (row.attempt not in request.resolved or careless):
            ending: tuple[Fact, ...] = () if request.has_ended else (("failed", 0),)
            yield (
                "sweep a lost attempt",
                request._replace(facts=(*request.facts, ("lost", row.attempt), *ending)),
                money,
            )


def _fold(request: Request, money: Money, mutant: Mutant | None) -> Step:
    kind, attempt = request.facts[request.folded]
    rows, held, spent, assumed = request.rows, money.held, money.spent, money.assumed
    if kind in RESOLVES:
        has_row = any(row.attempt == attempt for row in rows)
        rows = tuple(row for row in rows if row.attempt != attempt)
        held -= has_row or mutant is Mutant.RELEASES_TWICE
    spent += kind in ("cost", "settled")
    assumed += kind in ("lost", "unknown")
    assumed -= kind in ("settled", "waived") or (
        kind == "cost" and ("lost", attempt) in request.facts[: request.folded]
    )
    return f"fold {kind} {attempt}", request._replace(folded=request.folded + 1, rows=rows), Money(spent, assumed, held)


def _marked(rows: tuple[Row, ...], claimed: Row, delivery: int) -> tuple[Row, ...]:
    return tuple(row._replace(delivery=delivery) if row == claimed else row for row in rows)


def _with(request: Request, worker: Worker, changed: Worker) -> Request:
    return request._replace(workers=tuple(changed if one == worker else one for one in request.workers))


def _without(request: Request, worker: Worker) -> Request:
    return request._replace(workers=tuple(one for one in request.workers if one != worker))


def _way_to(state: State, came_from: dict[State, tuple[State, str] | None]) -> list[str]:
    names: list[str] = []
    while (step := came_from[state]) is not None:
        state, name = step
        names.append(name)
    return names[::-1]
