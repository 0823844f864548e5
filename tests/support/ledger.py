"""The real ledger for tests: accounts, admission, the log and the projector on one database."""

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import asyncpg

from api.accounts import Accounts
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    Event,
    KeySettings,
    RequestCompleted,
    request_stream,
)
from domain.money import NanoUsd
from domain.pricing import CostBreakdown, CostItem
from domain.tokens import TokenUsage
from infra.admission import Admission, AdmissionRequest, Attempt, Claims
from infra.database import HeldConnection, open_pool
from infra.embedded_postgres import OWNER
from infra.event_log import Commit, EventLog
from infra.ids import new_id
from infra.vault import Vault
from projections.registry import FOLDED
from projections.runner import Runner
from tests.support.jobs import make_identity
from tests.support.services import as_role

START = datetime(2026, 3, 30, 23, 59, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


class RealLedger:
    """All parts that decide about money, in one process."""

    def __init__(self, database_url: str, pool: asyncpg.Pool, owner: asyncpg.Pool, clock: Clock | None) -> None:
        self.clock = clock
        self.pool = pool
        self.owner = owner
        """As the owner of the tables, who may tamper with them."""
        self.log = EventLog(pool, HeldConnection(database_url, name="tests"))
        self.admission = Admission(HeldConnection(database_url, name="tests"), pool, now=clock)
        self.claims = Claims(HeldConnection(database_url, name="tests"), pool, worker="tests")
        self.accounts = Accounts(pool, self.log, Vault(os.urandom(32)))
        self.runner = Runner(pool, self.log, FOLDED)

    @classmethod
    async def open(cls, database_url: str, clock: Clock | None = None) -> "RealLedger":
        pool = await open_pool(database_url, name="tests", size=4)
        owner = await open_pool(as_role(database_url, OWNER), name="tests", size=4)
        return cls(database_url, pool, owner, clock)

    async def close(self) -> None:
        await self.admission.close()
        await self.claims.close()
        await self.log.close()
        await self.pool.close()
        await self.owner.close()

    async def new_project(self) -> str:
        return (await self.accounts.create_project("tests", {})).project_id

    async def new_key(self, project_id: str, **settings: Any) -> str:
        known = KeySettings(name="tests", **({"rate_limit": None} | settings))
        return (await self.accounts.issue_key(project_id, known)).key_id

    async def change_key(self, project_id: str, key_id: str, **settings: Any) -> None:
        record = await self.accounts.key(project_id, key_id)
        known = KeySettings(name="tests", **({"rate_limit": None} | settings))
        await self.accounts.change_key(record, known)

    async def fold(self) -> None:
        """Fold the log up to its end."""
        await self.runner.catch_up()

    async def append(self, attempt: Attempt, version: int, *events: Event) -> None:
        await self.log.append(
            Commit(
                stream=request_stream(attempt.identity.request_id),
                expected_version=version,
                project_id=attempt.identity.project_id,
                at=self.clock() if self.clock else datetime.now(UTC),
                events=events,
            )
        )

    async def history(self, made: Attempt) -> list[Event]:
        return [stored.event for stored in await self.log.read_stream(request_stream(made.identity.request_id))]

    async def balance(self, key_id: str) -> tuple[int, int]:
        """Return a key's spent and assumed amounts, over all days."""
        row = await self.pool.fetchrow(
            "SELECT coalesce(sum(spent_nano_usd), 0)::bigint AS spent, coalesce(sum(assumed_nano_usd), 0)::bigint AS a "
            "FROM budget_balances WHERE scope = 'key' AND scope_id = $1 AND period = 'day'",
            key_id,
        )
        return row["spent"], row["a"]

    async def held(self, key_id: str) -> int:
        return int(
            await self.pool.fetchval(
                "SELECT coalesce(sum(held_nano_usd), 0)::bigint FROM held_amounts "
                "WHERE scope = 'key' AND scope_id = $1",
                key_id,
            )
        )


def attempt(project_id: str, key_id: str, **fields: Any) -> Attempt:
    """Return a new attempt. `fields` override the defaults."""
    now = fields.pop("now", None) or datetime.now(UTC)
    return Attempt(
        **(
            {
                "identity": make_identity(
                    request_id=fields.pop("request_id", None) or new_id("req"), project_id=project_id, key_id=key_id
                ),
                "cache_key": None,
                "reply_to": "reply.tests.1",
                "admitted_at": now,
                "deadline": now.replace(year=now.year + 1),
                "uses_installation_credential": False,
            }
            | fields
        )
    )


def ask(wanted: Attempt, *, hold: int | None = 0, **fields: Any) -> AdmissionRequest:
    """Return the admission request of an attempt. By default it accepts no lower hold."""
    return AdmissionRequest(
        **(
            {
                "attempt": wanted,
                "min_created_at": None,
                "hold_nano_usd": hold,
                "min_hold_nano_usd": hold or 0,
                "token_bound": 0,
            }
            | fields
        )
    )


def completed(made: Attempt, number: int = 1) -> RequestCompleted:
    return RequestCompleted(
        **made.identity.attempt_fields(number),
        answered_by=made.identity.upstream_model,
        response_id="r",
        usage=TokenUsage(input=1, output=1),
        latency_ms=1,
        request_bytes=1,
        answer_bytes=1,
        answer_digest="00",
    )


def cost(made: Attempt, amount: int, *, hold: int, day: date, tokens: int = 0, number: int = 1) -> CostIncurred:
    return CostIncurred(
        **made.identity.attempt_fields(number),
        cost_nano_usd=NanoUsd(amount),
        price=None,
        breakdown=CostBreakdown(
            items=(CostItem(token_class="input", tokens=tokens, nano_usd_per_million=0),),
            total_nano_usd=NanoUsd(amount),
        ),
        hold_nano_usd=NanoUsd(hold),
        budget_day=day,
    )


def failed(made: Attempt, *, hold: int, day: date, number: int = 1) -> AttemptFailed:
    return AttemptFailed(
        **made.identity.attempt_fields(number),
        code="PROVIDER_UNAVAILABLE",
        message="down",
        hold_nano_usd=NanoUsd(hold),
        budget_day=day,
    )


def lost(made: Attempt, *, hold: int, day: date, number: int = 1) -> AttemptLost:
    return AttemptLost(
        **made.identity.attempt_fields(number), reason="worker_lost", assumed_nano_usd=NanoUsd(hold), budget_day=day
    )
