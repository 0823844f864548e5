"""Admission and settlement on PostgreSQL do the same as the reference model, for random steps in random order."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
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

from domain.budget import window_start
from infra.admission import Attempt
from tests.model.ledger import Account, AdmissionRequest, Ledger, Limits
from tests.support import ledger
from tests.support.ledger import Clock, RealLedger

AMOUNTS = st.integers(0, 400)
LIMITS = st.builds(
    Limits,
    daily=st.none() | st.integers(0, 1_000),
    monthly=st.none() | st.integers(0, 2_000),
    requests=st.none() | st.integers(1, 8),
    tokens=st.none() | st.integers(1, 500),
    concurrency=st.none() | st.integers(1, 4),
)


class LedgerMachine(RuleBasedStateMachine):
    """One project with two keys. The test sets the time."""

    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.real: RealLedger = self.runner.run(RealLedger.open(self.database_url, self.clock))
        self.model = Ledger()
        self.attempts: list[tuple[Attempt, int]] = []
        self.were_limits_lowered = False

    def teardown(self) -> None:
        self.runner.run(self.real.close())
        self.runner.close()

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize(first=LIMITS, second=LIMITS, project=LIMITS)
    def begin(self, first: Limits, second: Limits, project: Limits) -> None:
        self.project_id = self.run(self.real.new_project())
        self.run(
            self.real.accounts.change_project(
                self.project_id,
                settings={"daily_budget_nano_usd": project.daily, "monthly_budget_nano_usd": project.monthly},
                provider_keys={},
            )
        )
        self.model.project.limits = Limits(daily=project.daily, monthly=project.monthly)
        for limits in (first, second):
            key = self.run(self.real.new_key(self.project_id, **_settings(limits)))
            self.model.keys[key] = Account(limits)
        self.keys = list(self.model.keys)

    @rule(
        batch=st.lists(
            st.tuples(st.booleans(), AMOUNTS, AMOUNTS, st.integers(0, 200), st.booleans()), min_size=1, max_size=6
        )
    )
    def ask_together(self, batch: list[tuple[bool, int, int, int, bool]]) -> None:
        wanted = []
        for is_first, hold, floor, tokens, accept_lower_hold in batch:
            made = ledger.attempt(self.project_id, self.keys[0 if is_first else 1], now=self.clock.now)
            wanted.append(
                ledger.ask(
                    made,
                    hold=hold,
                    min_hold_nano_usd=min(hold, floor),
                    token_bound=tokens,
                    accept_lower_hold=accept_lower_hold,
                )
            )

        async def together() -> list[Any]:
            return await asyncio.gather(*(self.real.admission.admit(one) for one in wanted))

        # nothing is running, so the first request goes alone; the others wait and go in one batch, in the same order
        decisions = self.run(together())
        now_ns = int(self.clock.now.timestamp()) * 1_000_000_000
        for one, decision in zip(wanted, decisions, strict=True):
            expected, granted = self.model.decide(
                AdmissionRequest(
                    request_id=one.attempt.identity.request_id,
                    key=one.attempt.identity.key_id,
                    hold=one.hold_nano_usd or 0,
                    floor=one.min_hold_nano_usd,
                    tokens=one.token_bound,
                    accept_lower_hold=one.accept_lower_hold,
                ),
                now_ns,
                self.clock.now.date(),
            )
            assert (decision.outcome, decision.hold_nano_usd) == (expected, granted)
            if expected == "admitted":
                self.attempts.append((one.attempt, granted))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), over=st.integers(0, 20), tokens=st.integers(0, 300))
    def answer(self, data: st.DataObject, over: int, tokens: int) -> None:
        made, hold, day = self._take(data)
        amount = data.draw(st.integers(0, hold)) + (over if over > 15 else 0)
        cost = ledger.cost(made, amount, hold=hold, day=day, tokens=tokens)
        self._end(made, amount, tokens, ledger.completed(made), cost)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        made, hold, day = self._take(data)
        self._end(made, 0, 0, ledger.failed(made, hold=hold, day=day))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        made, hold, day = self._take(data)
        self._end(made, hold, None, ledger.lost(made, hold=hold, day=day))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        made, _, _ = self._take(data)
        assert self.run(self.real.admission.drop([made.identity.request_id]))
        assert not self.run(self.real.admission.drop([made.identity.request_id]))
        del self.model.rows[made.identity.request_id]

    @rule(seconds=st.sampled_from([0, 1, 7, 30, 61, 3_600, 24 * 3_600]))
    def wait(self, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    @rule(is_first=st.booleans(), limits=LIMITS)
    def change_limits(self, is_first: bool, limits: Limits) -> None:
        key = self.keys[0 if is_first else 1]
        self.run(self.real.change_key(self.project_id, key, **_settings(limits)))
        self.model.keys[key].limits = limits
        self.were_limits_lowered = True

    @invariant()
    def held_is_the_same(self) -> None:
        for key, account in self.model.keys.items():
            assert self.run(self.real.held(key)) == self.model.held(account)
        assert self.run(self.real.pool.fetch("SELECT * FROM held_differences()")) == []

    @invariant()
    def windows_are_covered(self) -> None:
        """Spent, assumed and held amounts stay within the limit plus the overage."""
        if self.were_limits_lowered:
            return
        today = self.clock.now.date()
        for account in (*self.model.keys.values(), self.model.project):
            month = {day for day in account.spent if window_start(day, "month") == window_start(today, "month")}
            rows = {row.day for row in self.model.rows.values()}
            if account.limits.daily is not None:
                taken = account.spent[today] + self.model.held(account, {today})
                assert taken <= account.limits.daily + account.overage
            if account.limits.monthly is not None:
                of_month = {day for day in month | rows if window_start(day, "month") == window_start(today, "month")}
                taken = sum(account.spent[day] for day in of_month) + self.model.held(account, of_month)
                assert taken <= account.limits.monthly + account.overage

    def _take(self, data: st.DataObject) -> tuple[Attempt, int, Any]:
        made, hold = self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))
        return made, hold, self.model.rows[made.identity.request_id].day

    def _end(self, made: Attempt, amount: int, tokens: int | None, *events: Any) -> None:
        self.run(self.real.append(made, 0, *events))
        self.run(self.real.fold())
        self.model.settle(made.identity.request_id, amount, tokens)


def _settings(limits: Limits) -> dict[str, Any]:
    return {
        "daily_budget_nano_usd": limits.daily,
        "monthly_budget_nano_usd": limits.monthly,
        "rate_limit": limits.requests,
        "token_limit": limits.tokens,
        "concurrency_limit": limits.concurrency,
    }


@pytest.mark.parametrize("examples", [40])
def test_admission_and_settlement_match_the_model(database_url: str, examples: int) -> None:
    machine = type("Machine", (LedgerMachine,), {"database_url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
