"""The reference model of admission and settlement in plain Python: limits, windows and holds of a project and its keys.

Decides requests one after the other, without a cache. Money and tokens are integers, time is in nanoseconds.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date

MINUTE_NS = 60_000_000_000


@dataclass
class Limits:
    """The limits of a key or a project. None means no limit."""

    daily: int | None = None
    monthly: int | None = None
    requests: int | None = None
    tokens: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True)
class AdmissionRequest:
    """A request for admission."""

    request_id: str
    key: str
    hold: int
    floor: int
    tokens: int
    accept_lower_hold: bool


@dataclass
class Row:
    """An attempt in flight."""

    key: str
    hold: int
    tokens: int
    day: date


@dataclass
class Bucket:
    """A rate limit, stored as its theoretical arrival time (GCRA)."""

    tat: int = 0

    def take(self, limit: int, amount: int, now_ns: int) -> bool:
        """Take an amount if the limit of a minute allows it. Return whether it does."""
        step = -(-MINUTE_NS // limit)
        tat = max(self.tat, now_ns) + step * amount
        if tat - now_ns > step * limit:
            return False
        self.tat = tat
        return True


@dataclass
class Account:
    """A key or a project."""

    limits: Limits = field(default_factory=Limits)
    spent: dict[date, int] = field(default_factory=lambda: defaultdict(int))
    """The spent and assumed amounts by day."""
    overage: int = 0
    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)


class Ledger:
    """One project and its keys."""

    def __init__(self) -> None:
        self.project = Account()
        self.keys: dict[str, Account] = {}
        self.rows: dict[str, Row] = {}

    def decide(self, request: AdmissionRequest, now_ns: int, today: date) -> tuple[str, int]:
        """Return the outcome, and the hold that is granted."""
        key = self.keys[request.key]
        limits = key.limits
        if limits.requests is not None and not key.requests.take(limits.requests, 1, now_ns):
            return "rate_limit", 0
        granted = request.hold
        windows = [window for account in (key, self.project) for window in self._windows(account, today)]
        if windows:
            fits = min(limit - taken for limit, taken, _ in windows)
            free = min(limit - taken - held for limit, taken, held in windows)
            is_blocked = any(limit == 0 for limit, _, _ in windows)
            if is_blocked or (granted > free and request.floor > fits):
                return "budget_spent", 0
            if granted > free:
                if request.floor > free or (free < fits and not request.accept_lower_hold):
                    return "budget_held", 0
                granted = free
        if limits.concurrency is not None and self.in_flight(request.key) >= limits.concurrency:
            return "concurrency", 0
        if limits.tokens is not None and not key.tokens.take(limits.tokens, request.tokens, now_ns):
            return "token_limit", 0
        self.rows[request.request_id] = Row(request.key, granted, request.tokens, today)
        return "admitted", granted

    def settle(self, request_id: str, cost: int, tokens: int | None) -> None:
        """Replace a hold by its cost. `tokens` is None if the number of tokens is unknown."""
        row = self.rows.pop(request_id)
        for account in (self.keys[row.key], self.project):
            account.spent[row.day] += cost
            account.overage += max(0, cost - row.hold)
        limit = self.keys[row.key].limits.tokens
        if tokens is not None and limit is not None:
            self.keys[row.key].tokens.tat += (tokens - row.tokens) * -(-MINUTE_NS // limit)

    def in_flight(self, key: str) -> int:
        """Return the number of a key's requests in flight."""
        return sum(row.key == key for row in self.rows.values())

    def held(self, account: Account, days: set[date] | None = None) -> int:
        """Return the sum of an account's holds, of the given days or of all."""
        return sum(
            row.hold
            for row in self.rows.values()
            if (account is self.project or self.keys[row.key] is account) and (days is None or row.day in days)
        )

    def _windows(self, account: Account, today: date) -> list[tuple[int, int, int]]:
        """Return limit, taken and held of each window for which an account has a limit."""
        rows = [row for row in self.rows.values() if account is self.project or self.keys[row.key] is account]
        windows = []
        for limit, belongs in (
            (account.limits.daily, lambda day: day == today),
            (account.limits.monthly, lambda day: (day.year, day.month) == (today.year, today.month)),
        ):
            if limit is not None:
                taken = sum(amount for day, amount in account.spent.items() if belongs(day))
                windows.append((limit, taken, sum(row.hold for row in rows if belongs(row.day))))
        return windows
