"""Leads, claims and next attempts on PostgreSQL match a plain table of attempts, for random steps in random order."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain.money import ZERO
from infra.admission import Admission, AdmissionDecision, Attempt, Claims
from infra.database import HeldConnection
from tests.support import ledger
from tests.support.ledger import Clock, RealLedger

TTL = timedelta(seconds=60)
SLOTS = st.tuples(st.integers(0, 1), st.sampled_from([None, b"q" * 32, b"a" * 32]))
"""One of two projects, and a cache key; None: the request is not shared."""

Slot = tuple[str, bytes]
"""A project and a cache key."""


@dataclass
class Flight:
    """An admitted request with its attempts in flight: by number, the delivery that claimed it."""

    made: Attempt
    attempts: dict[int, int | None] = field(default_factory=lambda: {1: None})
    number: int = 1
    """The number of the last attempt."""

    @property
    def slot(self) -> Slot | None:
        return None if self.made.cache_key is None else (self.made.identity.project_id, self.made.cache_key)

    @property
    def newest_delivery(self) -> int:
        return max((delivery for delivery in self.attempts.values() if delivery is not None), default=0)


class FlightMachine(RuleBasedStateMachine):
    """Two projects, two API processes and two workers. The test sets the time."""

    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.real: RealLedger = self.run(RealLedger.open(self.database_url, self.clock))
        self.admissions = (
            self.real.admission,
            Admission(HeldConnection(self.database_url, name="tests"), self.real.pool, now=self.clock),
        )
        self.workers = (
            self.real.claims,
            Claims(HeldConnection(self.database_url, name="tests"), self.real.pool, worker="other"),
        )
        self.flights: list[Flight] = []
        self.leads: dict[Slot, tuple[Flight, int]] = {}
        self.answers: dict[Slot, tuple[str, Any]] = {}

    def teardown(self) -> None:
        self.run(self.admissions[1].close())
        self.run(self.workers[1].close())
        self.run(self.real.close())
        self.runner.close()

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.run(self.real.owner.execute("TRUNCATE inflight, cache_entries"))
        self.projects = [self.run(self.real.new_project()) for _ in range(2)]
        self.keys = [self.run(self.real.new_key(project)) for project in self.projects]

    @rule(
        requested=st.lists(SLOTS, min_size=1, max_size=6),
        process=st.integers(0, 1),
        is_fresh=st.booleans(),
    )
    def ask_together(self, requested: list[tuple[int, bytes | None]], process: int, is_fresh: bool) -> None:
        made = [self._attempt(*one) for one in requested]
        for one, decision in zip(made, self._decide(made, (process,), is_fresh), strict=True):
            assert (decision.outcome, decision.origin) == self._expected(one, is_fresh)
            self._note(one, decision)

    @rule(requested=SLOTS.filter(lambda one: one[1] is not None), count=st.integers(2, 8), is_fresh=st.booleans())
    def ask_over_both_processes(self, requested: tuple[int, bytes | None], count: int, is_fresh: bool) -> None:
        made = [self._attempt(*requested) for _ in range(count)]
        expected, _ = self._expected(made[0], is_fresh)
        decisions = dict(zip(made, self._decide(made, (0, 1), is_fresh), strict=True))
        leaders = [one for one, decision in decisions.items() if decision.outcome == "admitted"]
        assert len(leaders) == (expected == "admitted")
        for one in leaders:
            self._note(one, decisions.pop(one))
        for one, decision in decisions.items():
            if decision.outcome != "retry":
                assert (decision.outcome, decision.origin) == self._expected(one, is_fresh)

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), deliveries=st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True))
    def claim(self, data: st.DataObject, deliveries: list[int]) -> None:
        flight = self._any(data)
        claims = self._by_both_workers(
            [
                worker.claim(flight.made.identity.request_id, delivery)
                for worker, delivery in self._shared_out(deliveries)
            ]
        )
        winners = [delivery for delivery, claim in zip(deliveries, claims, strict=True) if claim is not None]
        unclaimed = [number for number, delivery in flight.attempts.items() if delivery is None]
        assert [claim.attempt for claim in claims if claim is not None] == unclaimed
        flight.attempts.update(zip(unclaimed, winners, strict=True))

    @precondition(lambda self: self.flights)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        flight = self._any(data)
        unclaimed = [number for number, delivery in flight.attempts.items() if delivery is None]
        assert bool(self.run(self.real.admission.drop([flight.made.identity.request_id]))) == bool(unclaimed)
        for number in unclaimed:
            self._ended(flight, number)

    @precondition(lambda self: self.flights)
    @rule(
        data=st.data(),
        deliveries=st.lists(st.integers(1, 8), min_size=1, max_size=3, unique=True),
        is_repeated=st.booleans(),
    )
    def make_the_next_attempt(self, data: st.DataObject, deliveries: list[int], is_repeated: bool) -> None:
        flight = self._any(data)
        if None in flight.attempts.values():
            return
        number = flight.number if is_repeated and flight.number in flight.attempts else flight.number + 1
        claims = self._by_both_workers(
            [
                worker.admit_next(flight.made, number, delivery, ZERO, self.clock.now.date())
                for worker, delivery in self._shared_out(deliveries)
            ]
        )
        winners = [delivery for delivery, claim in zip(deliveries, claims, strict=True) if claim is not None]
        may_win = [one for one in deliveries if number > flight.number and one >= flight.newest_delivery]
        assert len(winners) == bool(may_win)
        assert set(winners) <= set(may_win)
        for delivery in winners:
            flight.attempts[number] = delivery
            flight.number = number
            if flight.slot is not None and self.leads.get(flight.slot, (flight, 0))[0] is flight:
                self.leads[flight.slot] = (flight, number)

    @precondition(lambda self: any(flight.attempts for flight in self.flights))
    @rule(data=st.data(), is_answered=st.booleans())
    def settle(self, data: st.DataObject, is_answered: bool) -> None:
        flight = self._any(data)
        if not flight.attempts:
            return
        number = data.draw(st.sampled_from(sorted(flight.attempts)))
        made = flight.made
        self.run(
            self.real.pool.execute(
                "SELECT settle($1, $2, $3, '{-1}')", [made.identity.request_id], [number], [made.identity.key_id]
            )
        )
        self._ended(flight, number)
        if is_answered and flight.slot is not None:
            self.answers[flight.slot] = (made.identity.request_id, self.clock.now)
            self.run(
                self.real.pool.execute(
                    "INSERT INTO cache_entries (project_id, cache_key, request_id, blob_id, created_at, expires_at) "
                    "VALUES ($1, $2, $3, 'blob', $4, $5) ON CONFLICT (project_id, cache_key) "
                    "DO UPDATE SET request_id = excluded.request_id, created_at = excluded.created_at, "
                    "expires_at = excluded.expires_at",
                    *flight.slot,
                    made.identity.request_id,
                    self.clock.now,
                    self.clock.now + TTL,
                )
            )

    @rule(seconds=st.sampled_from([1, 30, 60]))
    def wait(self, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    @invariant()
    def what_is_in_flight_is_the_same(self) -> None:
        rows = self.run(
            self.real.pool.fetch("SELECT request_id, attempt, delivery, cache_key IS NOT NULL FROM inflight")
        )
        leading = {(flight.made.identity.request_id, number) for flight, number in self.leads.values()}
        assert {tuple(row) for row in rows} == {
            (flight.made.identity.request_id, number, delivery, (flight.made.identity.request_id, number) in leading)
            for flight in self.flights
            for number, delivery in flight.attempts.items()
        }

    def _attempt(self, project: int, cache_key: bytes | None) -> Attempt:
        return ledger.attempt(self.projects[project], self.keys[project], cache_key=cache_key, now=self.clock.now)

    def _decide(self, made: list[Attempt], processes: tuple[int, ...], is_fresh: bool) -> list[AdmissionDecision]:
        min_created_at = None if is_fresh else self.clock.now - TTL

        async def together() -> list[AdmissionDecision]:
            return await asyncio.gather(
                *(
                    self.admissions[processes[place % len(processes)]].admit(
                        ledger.ask(one, min_created_at=min_created_at)
                    )
                    for place, one in enumerate(made)
                )
            )

        return self.run(together())  # type: ignore[no-any-return]

    def _expected(self, made: Attempt, is_fresh: bool) -> tuple[str, str | None]:
        slot = None if made.cache_key is None else (made.identity.project_id, made.cache_key)
        if slot is None:
            return "admitted", None
        origin, answered_at = self.answers.get(slot, ("", None))
        if answered_at is not None and not is_fresh and answered_at + TTL > self.clock.now:
            return "hit", origin
        if slot in self.leads:
            return "coalesced", self.leads[slot][0].made.identity.request_id
        return "admitted", None

    def _note(self, made: Attempt, decision: AdmissionDecision) -> None:
        if decision.outcome == "admitted":
            flight = Flight(made)
            self.flights.append(flight)
            if flight.slot is not None:
                self.leads[flight.slot] = (flight, 1)

    def _ended(self, flight: Flight, number: int) -> None:
        del flight.attempts[number]
        if flight.slot is not None and self.leads.get(flight.slot) == (flight, number):
            del self.leads[flight.slot]

    def _any(self, data: st.DataObject) -> Flight:
        return self.flights[data.draw(st.integers(0, len(self.flights) - 1))]

    def _shared_out(self, deliveries: list[int]) -> list[tuple[Claims, int]]:
        return [(self.workers[place % 2], delivery) for place, delivery in enumerate(deliveries)]

    def _by_both_workers(self, requested: list[Any]) -> list[Any]:
        async def together() -> list[Any]:
            return await asyncio.gather(*requested)

        return self.run(together())  # type: ignore[no-any-return]


def test_leads_and_claims_match_the_table(database_url: str) -> None:
    machine = type("Machine", (FlightMachine,), {"database_url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
