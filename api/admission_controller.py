"""Has a request decided about by `admit`: limits, budgets, the cache's index, and requests in flight. Decides only.

If nothing but requests in flight stands in the way, waits for them in a line (`api/waiting_lines.py`): that of the
project if its budget is short, else that of the key. What a refusal means for the caller is `api/refusals.py`.
"""

import time
from collections.abc import Callable

from msgspec.structs import replace

from api.metrics import Metrics
from api.observation import NOT_OBSERVED, RequestObserver
from api.request_context import RequestContext
from api.waiting_lines import LineFull, WaitingLines
from domain.errors import RateLimited
from domain.routing import KEYLESS_KINDS
from infra.admission import Admission, AdmissionDecision, AdmissionRequest, Attempt
from infra.event_log import Commit
from infra.replies import ReplyInbox

WAITING = ("budget_held", "concurrency", "queued")
PLACES = {"project's daily": 1, "project's monthly": 1, "installation's daily": 2}
"""The budget windows that keys of a project share, as `tightest_window` in migrations/functions names them, by their
place in `_accounts`."""
RETRY_AFTER_S = 1.0


class StaleKey(Exception):
    """The key works no longer, or has other settings than the request was planned with."""

    def __init__(self, *, is_counted: bool) -> None:
        super().__init__()
        self.is_counted = is_counted
        """The request was counted toward the rate limit before that."""


class AdmissionController:
    """Decides for one API process."""

    def __init__(
        self, *, admission: Admission, inbox: ReplyInbox, metrics: Metrics, observer: RequestObserver = NOT_OBSERVED
    ) -> None:
        self._observer = observer
        self._admission = admission
        self._inbox = inbox
        self._metrics = metrics
        self._lines = WaitingLines()
        metrics.waiting.set_function(lambda: self._lines.waiting)

    async def decide(self, ctx: RequestContext, served: Commit | None = None) -> AdmissionDecision:
        """Have a request decided about. With `served`, the event of a cache hit: have it counted, and that appended.

        Raises:
            Unavailable, Overloaded: no decision can be made at the moment.
            ClientDisconnected: the client left while the request waited; nothing is held.
            RateLimited: too many wait already.
            StaleKey: the key has changed since it was read; nothing is held.

        """
        request = self._request(ctx, served)
        with self._observer.admitting() as watch:
            decision = await self._admission.admit(request)
            if decision.outcome in WAITING:
                request = replace(request, is_counted=True, is_last_in_line=False)
                decision = await self._wait(ctx, request, decision)
            watch.decided(decision)
        self._metrics.decided(decision.outcome)
        if decision.outcome == "stale":
            raise StaleKey(is_counted=request.is_counted)
        return decision

    async def _wait(
        self, ctx: RequestContext, request: AdmissionRequest, decision: AdmissionDecision
    ) -> AdmissionDecision:
        """Stand in line until there is room, as long as the key allows. Then a lower hold will do, or it is refused."""
        until = time.monotonic() + ctx.caller.settings.budget_wait_ms / 1000
        accounts = _accounts(ctx)
        account = next((one for one in reversed(accounts) if self._lines.is_waited_for(one)), accounts[0])
        while decision.outcome in WAITING:
            account = _in_the_way(decision, accounts) or account
            try:
                waited = await self._lines.wait(
                    account,
                    request.hold_nano_usd or 0,
                    lambda: self._admission.admit(request),
                    waits=_waits_for(account, accounts),
                    wait_s=until - time.monotonic(),
                    disconnect=ctx.disconnect,
                )
            except LineFull:
                raise RateLimited(
                    "too many requests wait for what others hold of this budget", retry_after_s=RETRY_AFTER_S
                ) from None
            if waited is None:
                return await self._admission.admit(replace(request, accept_lower_hold=True))
            decision = waited
        return decision

    def _request(self, ctx: RequestContext, served: Commit | None) -> AdmissionRequest:
        return AdmissionRequest(
            min_created_at=ctx.min_created_at if served is None else None,
            served=served,
            hold_nano_usd=ctx.cost.hold_nano_usd,
            min_hold_nano_usd=ctx.cost.min_hold_nano_usd,
            token_bound=ctx.cost.input_tokens,
            is_counted=ctx.is_counted,
            key_version=ctx.caller.key_version,
            is_last_in_line=self._lines.is_waited_for(*_accounts(ctx)),
            attempt=Attempt(
                identity=ctx.identity,
                cache_key=None if served is not None else ctx.cache_key,
                reply_to=self._inbox.subject(ctx.identity.request_id),
                admitted_at=ctx.inference_request.received_at if served is None else served.at,
                deadline=ctx.deadline,
                uses_installation_credential=_uses_installation_credential(ctx),
            ),
        )


def _uses_installation_credential(ctx: RequestContext) -> bool:
    return ctx.target.kind not in KEYLESS_KINDS and ctx.target.provider not in ctx.caller.own_credentials


def _accounts(ctx: RequestContext) -> tuple[str, ...]:
    """Return what a request may have to wait for: its key, its project, the installation's share of its project."""
    key_id, project_id = ctx.caller.key_id, ctx.caller.project_id
    if _uses_installation_credential(ctx):
        return key_id, project_id, f"{project_id} with the installation's credentials"
    return key_id, project_id


def _in_the_way(decision: AdmissionDecision, accounts: tuple[str, ...]) -> str | None:
    """Return the account whose limit makes a request wait; None if it is another request that waits longer."""
    match decision.outcome:
        case "budget_held":
            assert decision.window is not None, "a budget refuses in a window"
            return accounts[PLACES.get(decision.window.name, 0)]
        case "concurrency":
            return accounts[0]
        case _:
            return None


def _waits_for(account: str, accounts: tuple[str, ...]) -> Callable[[AdmissionDecision], bool]:
    """Return what says of a decision that a request stays in this account's line."""
    return lambda decision: decision.outcome in WAITING and _in_the_way(decision, accounts) in (None, account)
