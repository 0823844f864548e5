"""Identical requests make one attempt at a time, and one delivery claims an attempt: on PostgreSQL, step by step."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from domain.money import ZERO
from infra.admission import Admission, AdmissionDecision, Attempt, Claims
from infra.database import Connection, HeldConnection
from tests.support.ledger import RealLedger, ask, attempt
from tests.support.locks import blocked_backend

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TODAY = NOW.date()
CACHE_KEY, ANOTHER_KEY = b"q" * 32, b"a" * 32


class Account:
    """A project with a key without limits."""

    def __init__(self, ledger: RealLedger, project_id: str, key_id: str) -> None:
        self.ledger = ledger
        self.project_id = project_id
        self.key_id = key_id

    def attempt(self, cache_key: bytes | None = CACHE_KEY, now: datetime = NOW) -> Attempt:
        return attempt(self.project_id, self.key_id, cache_key=cache_key, now=now)

    async def admitted(self, cache_key: bytes | None = CACHE_KEY) -> Attempt:
        made = self.attempt(cache_key)
        assert (await self.ledger.admission.admit(ask(made))).outcome == "admitted"
        return made

    async def remember(self, origin: str, connection: Connection | None = None) -> None:
        """Store a cache entry that expires ten minutes after NOW."""
        await (connection or self.ledger.pool).execute(
            "INSERT INTO cache_entries (project_id, cache_key, request_id, blob_id, created_at, expires_at) "
            "VALUES ($1, $2, $3, 'blob', $4, $5)",
            self.project_id,
            CACHE_KEY,
            origin,
            NOW,
            NOW + timedelta(minutes=10),
        )

    async def leader(self, cache_key: bytes = CACHE_KEY) -> str | None:
        """Return the request that an identical request would follow now."""
        found: str | None = await self.ledger.pool.fetchval(
            "SELECT request_id FROM inflight WHERE project_id = $1 AND cache_key = $2", self.project_id, cache_key
        )
        return found


async def new_account(ledger: RealLedger) -> Account:
    project = await ledger.new_project()
    return Account(ledger, project, await ledger.new_key(project))


@pytest.fixture
async def account(ledger: RealLedger) -> Account:
    return await new_account(ledger)


@pytest.fixture
async def other_process(database_url: str, ledger: RealLedger) -> AsyncIterator[Admission]:
    opened = Admission(HeldConnection(database_url, name="tests"), ledger.pool)
    yield opened
    await opened.close()


@pytest.fixture
async def other_worker(database_url: str, ledger: RealLedger) -> AsyncIterator[Claims]:
    opened = Claims(HeldConnection(database_url, name="tests"), ledger.pool, worker="other")
    yield opened
    await opened.close()


async def decide(
    admission: Admission, *made: Attempt, min_created_at: datetime | None = None
) -> list[AdmissionDecision]:
    """Admit attempts in one batch: all of them wait before the first statement is sent."""
    return await asyncio.gather(*(admission.admit(ask(one, min_created_at=min_created_at)) for one in made))


async def test_first_of_equal_requests_leads_its_batch(ledger: RealLedger, account: Account) -> None:
    made = [account.attempt() for _ in range(50)]
    decisions = await decide(ledger.admission, *made)
    assert [(one.outcome, one.origin) for one in decisions] == [
        ("admitted", None),
        *[("coalesced", made[0].identity.request_id)] * 49,
    ]
    assert await ledger.pool.fetchval("SELECT count(*) FROM inflight") == 1


async def test_one_request_leads_over_two_processes(
    ledger: RealLedger, account: Account, other_process: Admission
) -> None:
    mine, theirs = ([account.attempt() for _ in range(50)] for _ in range(2))
    found = await asyncio.gather(decide(ledger.admission, *mine), decide(other_process, *theirs))
    decisions = dict(zip((*mine, *theirs), (*found[0], *found[1]), strict=True))
    leaders = [made for made, decision in decisions.items() if decision.outcome == "admitted"]
    assert [leader.identity.request_id for leader in leaders] == [await account.leader()]
    again = await decide(ledger.admission, *(made for made, one in decisions.items() if one.outcome == "retry"))
    following = [one for one in (*decisions.values(), *again) if one.outcome not in ("admitted", "retry")]
    assert [(one.outcome, one.origin) for one in following] == [("coalesced", leaders[0].identity.request_id)] * 99


async def test_equal_requests_follow_an_earlier_leader(ledger: RealLedger, account: Account) -> None:
    leader = await account.admitted()
    decisions = await decide(ledger.admission, account.attempt(None), *(account.attempt() for _ in range(3)))
    assert [(one.outcome, one.origin) for one in decisions] == [
        ("admitted", None),
        *[("coalesced", leader.identity.request_id)] * 3,
    ]


async def test_refresh_does_not_wait_for_an_equal_hit(ledger: RealLedger, account: Account) -> None:
    await account.remember("req_origin")
    hit, fresh, behind = await asyncio.gather(
        ledger.admission.admit(ask(account.attempt(), min_created_at=NOW)),
        ledger.admission.admit(ask(leading := account.attempt())),
        ledger.admission.admit(ask(account.attempt())),
    )
    assert [hit.outcome, fresh.outcome, behind.outcome] == ["hit", "admitted", "coalesced"]
    assert behind.origin == leading.identity.request_id


async def test_affordable_request_leads_after_a_refused_equal(ledger: RealLedger, account: Account) -> None:
    poor = Account(ledger, account.project_id, await ledger.new_key(account.project_id, daily_budget_nano_usd=5))
    made = [poor.attempt(), account.attempt(), poor.attempt()]
    refused, leads, follows = await asyncio.gather(*(ledger.admission.admit(ask(one, hold=10)) for one in made))
    assert [refused.outcome, leads.outcome, follows.outcome] == ["budget_spent", "admitted", "coalesced"]
    assert follows.origin == made[1].identity.request_id


async def test_projects_and_requests_share_no_lead(ledger: RealLedger, account: Account) -> None:
    stranger = await new_account(ledger)
    made = [account.attempt(), stranger.attempt(), account.attempt(ANOTHER_KEY), stranger.attempt(), account.attempt()]
    decisions = await decide(ledger.admission, *made)
    assert [(one.outcome, one.origin) for one in decisions] == [
        ("admitted", None),
        ("admitted", None),
        ("admitted", None),
        ("coalesced", made[1].identity.request_id),
        ("coalesced", made[0].identity.request_id),
    ]
    newcomer = await new_account(ledger)
    assert [one.outcome for one in await decide(ledger.admission, newcomer.attempt())] == ["admitted"]


async def test_a_request_that_shares_nothing_neither_leads_nor_follows(ledger: RealLedger, account: Account) -> None:
    await account.remember("req_origin")
    alone = [account.attempt(None) for _ in range(3)]
    decisions = await decide(ledger.admission, *alone, min_created_at=NOW - timedelta(days=1))
    assert [one.outcome for one in decisions] == ["admitted"] * 3
    leader = await account.admitted()
    assert [one.outcome for one in await decide(ledger.admission, account.attempt(None))] == ["admitted"]
    assert await account.leader() == leader.identity.request_id


async def test_response_is_a_hit_until_it_expires(ledger: RealLedger, account: Account) -> None:
    await account.remember("req_origin")

    async def outcome(min_created_at: datetime | None, now: datetime) -> tuple[str, str | None]:
        made = account.attempt(now=now)
        (decision,) = await decide(ledger.admission, made, min_created_at=min_created_at)
        await ledger.admission.drop([made.identity.request_id])
        return decision.outcome, decision.origin

    moment, expiry = timedelta(microseconds=1), NOW + timedelta(minutes=10)
    assert await outcome(NOW, NOW) == ("hit", "req_origin")
    assert await outcome(NOW + moment, NOW) == ("admitted", None)
    assert await outcome(NOW, expiry - moment) == ("hit", "req_origin")
    assert await outcome(NOW, expiry) == ("admitted", None)
    assert await outcome(None, NOW) == ("admitted", None)


async def test_another_project_or_request_is_no_hit(ledger: RealLedger, account: Account) -> None:
    stranger = await new_account(ledger)
    await account.remember("req_origin")
    attempts = (stranger.attempt(), account.attempt(ANOTHER_KEY), account.attempt())
    decisions = await decide(ledger.admission, *attempts, min_created_at=NOW)
    assert [one.outcome for one in decisions] == ["admitted", "admitted", "hit"]


async def test_cached_response_is_preferred_to_following(ledger: RealLedger, account: Account) -> None:
    leader = await account.admitted()
    await account.remember("req_origin")
    (hit,) = await decide(ledger.admission, account.attempt(), min_created_at=NOW)
    (follow,) = await decide(ledger.admission, account.attempt(), min_created_at=None)
    assert (hit.outcome, hit.origin) == ("hit", "req_origin")
    assert (follow.outcome, follow.origin) == ("coalesced", leader.identity.request_id)


async def test_loser_of_the_lead_retries_and_follows(ledger: RealLedger, account: Account) -> None:
    faster, slower = account.attempt(), [account.attempt() for _ in range(2)]
    async with ledger.owner.acquire() as other:
        async with other.transaction():
            await lead(other, faster)
            racing = asyncio.create_task(decide(ledger.admission, *slower, min_created_at=NOW))
            await blocked_backend(other)
        assert [one.outcome for one in await racing] == ["retry", "retry"]
    followed = await decide(ledger.admission, *slower, min_created_at=NOW)
    assert [(one.outcome, one.origin) for one in followed] == [("coalesced", faster.identity.request_id)] * 2
    assert await ledger.claims.in_flight(slower[0].identity.request_id) == []


async def test_request_leads_after_a_failed_leader(ledger: RealLedger, account: Account) -> None:
    racing = account.attempt()
    async with ledger.owner.acquire() as other:
        undone = other.transaction()
        await undone.start()
        await lead(other, account.attempt())
        decided = asyncio.create_task(decide(ledger.admission, racing))
        await blocked_backend(other)
        await undone.rollback()
        assert [one.outcome for one in await decided] == ["admitted"]
    assert await account.leader() == racing.identity.request_id


async def test_response_during_the_race_is_a_hit(ledger: RealLedger, account: Account) -> None:
    faster, slower = account.attempt(), [account.attempt() for _ in range(2)]
    async with ledger.owner.acquire() as other:
        async with other.transaction():
            await lead(other, faster)
            racing = asyncio.create_task(decide(ledger.admission, *slower, min_created_at=NOW))
            await blocked_backend(other)
            await account.remember(faster.identity.request_id, other)
            await other.execute("DELETE FROM inflight WHERE request_id = $1", faster.identity.request_id)
        decisions = await racing
    assert [one.outcome for one in decisions] == ["hit", "retry"]
    assert decisions[0].origin == faster.identity.request_id
    assert [one.outcome for one in await decide(ledger.admission, slower[1], min_created_at=NOW)] == ["hit"]
    assert await ledger.pool.fetchval("SELECT count(*) FROM inflight") == 0


@pytest.mark.parametrize("is_answered", [False, True], ids=["retry", "hit"])
async def test_loser_of_the_lead_is_not_charged(ledger: RealLedger, account: Account, is_answered: bool) -> None:
    limits = {"token_limit": 1000, "concurrency_limit": 2, "daily_budget_nano_usd": 100}
    account.key_id = await ledger.new_key(account.project_id, **limits)
    faster, slower = account.attempt(), account.attempt()
    async with ledger.owner.acquire() as other:
        async with other.transaction():
            await lead(other, faster)
            racing = asyncio.create_task(
                ledger.admission.admit(ask(slower, hold=60, token_bound=900, min_created_at=NOW))
            )
            await blocked_backend(other)
            if is_answered:
                await account.remember(faster.identity.request_id, other)
                await other.execute("DELETE FROM inflight WHERE request_id = $1", faster.identity.request_id)
        decision = await racing
    assert decision.outcome == ("hit" if is_answered else "retry")
    assert decision.limit_status.tokens is not None
    assert (decision.limit_status.tokens.remaining, decision.limit_status.budget_left_nano_usd) == (1000, 100)
    another = ask(account.attempt(ANOTHER_KEY), hold=60, token_bound=900)
    assert (await ledger.admission.admit(another)).outcome == "admitted"


async def test_a_claim_is_had_by_one_of_many_deliveries(
    ledger: RealLedger, account: Account, other_worker: Claims
) -> None:
    made, untouched = await account.admitted(), await account.admitted(ANOTHER_KEY)
    claims = await asyncio.gather(
        *((ledger.claims, other_worker)[n % 2].claim(made.identity.request_id, n + 1) for n in range(40))
    )
    winners = [delivery for delivery, claim in enumerate(claims, start=1) if claim is not None]
    (row,) = await ledger.claims.in_flight(made.identity.request_id)
    assert [row.delivery] == winners
    assert await ledger.claims.claim(made.identity.request_id, 99) is None
    assert [one.delivery for one in await ledger.claims.in_flight(untouched.identity.request_id)] == [None]


async def test_each_of_a_batch_has_its_own_claim(ledger: RealLedger, account: Account) -> None:
    made = [account.attempt(None) for _ in range(20)]
    await asyncio.gather(*(ledger.admission.admit(ask(one, hold=hold)) for hold, one in enumerate(made)))
    attempts = [(one.identity.request_id, delivery) for delivery, one in enumerate(reversed(made), start=1)]
    nothing, *claims = await asyncio.gather(
        ledger.claims.claim("req_unknown", 1), *(ledger.claims.claim(*one) for one in attempts)
    )
    assert nothing is None
    assert [claim and claim.hold_nano_usd for claim in claims] == list(reversed(range(20)))
    rows = [(await ledger.claims.in_flight(request))[0] for request, _ in attempts]
    assert [(row.delivery, row.hold_nano_usd) for row in rows] == [(n + 1, 19 - n) for n in range(20)]


async def test_dropped_request_cannot_be_claimed_or_lead(ledger: RealLedger, account: Account) -> None:
    made = await account.admitted()
    assert await ledger.admission.drop([made.identity.request_id])
    assert not await ledger.admission.drop([made.identity.request_id])
    assert await ledger.claims.claim(made.identity.request_id, 1) is None
    assert [one.outcome for one in await decide(ledger.admission, account.attempt())] == ["admitted"]


async def test_claimed_request_is_not_dropped_and_leads(ledger: RealLedger, account: Account) -> None:
    made, other = await account.admitted(), await account.admitted(ANOTHER_KEY)
    assert await ledger.claims.claim(made.identity.request_id, 1)
    assert not await ledger.admission.drop([made.identity.request_id])
    assert await account.leader() == made.identity.request_id
    assert await account.leader(ANOTHER_KEY) == other.identity.request_id


async def test_a_request_is_dropped_or_claimed_never_both(ledger: RealLedger, account: Account) -> None:
    made = [await account.admitted(None) for _ in range(40)]
    dropped, claimed = await asyncio.gather(
        asyncio.gather(*(ledger.admission.drop([one.identity.request_id]) for one in made)),
        asyncio.gather(*(ledger.claims.claim(one.identity.request_id, 1) for one in made)),
    )
    assert [is_dropped != (claim is not None) for is_dropped, claim in zip(dropped, claimed, strict=True)] == [
        True
    ] * 40


async def test_of_many_deliveries_one_makes_the_next_attempt(
    ledger: RealLedger, account: Account, other_worker: Claims
) -> None:
    made = await account.admitted()
    assert await ledger.claims.claim(made.identity.request_id, 1)
    claims = await asyncio.gather(
        *((ledger.claims, other_worker)[n % 2].admit_next(made, 2, 2 + n, ZERO, TODAY) for n in range(6))
    )
    winners = [delivery for delivery, claim in enumerate(claims, start=2) if claim is not None]
    assert [(one.attempt, one.delivery) for one in await ledger.claims.in_flight(made.identity.request_id)] == [
        (1, 1),
        *((2, delivery) for delivery in winners),
    ]
    assert len(winners) == 1


async def test_an_older_delivery_makes_no_next_attempt(ledger: RealLedger, account: Account) -> None:
    made = await account.admitted()
    assert await ledger.claims.claim(made.identity.request_id, 3)
    assert await ledger.claims.admit_next(made, 2, 2, ZERO, TODAY) is None
    assert await account.leader() == made.identity.request_id
    assert await ledger.claims.admit_next(made, 2, 3, ZERO, TODAY) is not None
    assert await ledger.claims.admit_next(made, 2, 4, ZERO, TODAY) is None


async def test_no_attempt_is_made_before_one_that_is_in_flight(ledger: RealLedger, account: Account) -> None:
    made = await account.admitted()
    assert await ledger.claims.claim(made.identity.request_id, 1)
    assert await ledger.claims.admit_next(made, 2, 2, ZERO, TODAY)
    await settle(ledger, made, 1)
    assert await ledger.claims.admit_next(made, 1, 3, ZERO, TODAY) is None
    assert [one.attempt for one in await ledger.claims.in_flight(made.identity.request_id)] == [2]


async def test_the_lead_outlives_the_attempt_that_had_it(ledger: RealLedger, account: Account) -> None:
    made = await account.admitted()
    assert await ledger.claims.claim(made.identity.request_id, 1)
    assert await ledger.claims.admit_next(made, 2, 2, ZERO, TODAY)
    await settle(ledger, made, 1)
    (follow,) = await decide(ledger.admission, account.attempt())
    assert (follow.outcome, follow.origin) == ("coalesced", made.identity.request_id)
    await settle(ledger, made, 2)
    assert [one.outcome for one in await decide(ledger.admission, account.attempt())] == ["admitted"]


async def test_retry_does_not_take_the_lead_from_another(ledger: RealLedger, account: Account) -> None:
    made = await account.admitted()
    assert await ledger.claims.claim(made.identity.request_id, 1)
    await settle(ledger, made, 1)
    leader = await account.admitted()
    assert await ledger.claims.admit_next(made, 2, 2, ZERO, TODAY)
    assert await account.leader() == leader.identity.request_id


async def test_a_leader_that_is_admitted_at_the_same_moment_takes_the_lead_and_not_the_attempt(
    ledger: RealLedger, account: Account
) -> None:
    made = await account.admitted()
    assert await ledger.claims.claim(made.identity.request_id, 1)
    async with ledger.owner.acquire() as connection:
        async with connection.transaction():
            await connection.execute("CREATE TEMPORARY TABLE equal ON COMMIT DROP AS SELECT * FROM inflight")
            await settle(ledger, made, 1)
            await connection.execute("UPDATE equal SET request_id = 'req_equal'")
            await connection.execute("INSERT INTO inflight SELECT * FROM equal")
            following = asyncio.create_task(ledger.claims.admit_next(made, 2, 2, ZERO, TODAY))
            await blocked_backend(connection)
        assert await following is not None
    assert await account.leader() == "req_equal"


async def test_unshared_retry_does_not_lead(ledger: RealLedger, account: Account) -> None:
    made = await account.admitted(None)
    assert await ledger.claims.claim(made.identity.request_id, 1)
    assert await ledger.claims.admit_next(made, 2, 2, ZERO, TODAY)
    assert await ledger.pool.fetchval("SELECT count(*) FROM inflight WHERE cache_key IS NOT NULL") == 0


async def settle(ledger: RealLedger, made: Attempt, number: int) -> None:
    """Settle an attempt as the projector does."""
    await ledger.pool.execute(
        "SELECT settle($1, $2, $3, $4)", [made.identity.request_id], [number], [made.identity.key_id], [-1]
    )


async def lead(connection: Connection, made: Attempt) -> None:
    """Make an attempt the leader on an open transaction, like another process that has not committed yet."""
    await connection.execute(
        "INSERT INTO inflight (request_id, attempt, project_id, key_id, operation, model, provider, upstream_model, "
        "metadata, cache_key, hold_nano_usd, token_bound, budget_day, reply_to, admitted_at, deadline) "
        "VALUES ($1, 1, $2, $3, 'chat', 'm', 'p', 'u', NULL, $4, 0, 0, $5, 'r', $6, $7)",
        made.identity.request_id,
        made.identity.project_id,
        made.identity.key_id,
        made.cache_key,
        TODAY,
        made.admitted_at,
        made.deadline,
    )
