"""Keys that admission has refused for their rate, until the moment at which the rate has room again.

Until then a request is refused before its body is read, and without the database: nothing can admit it, because an
arrival time never goes back. Settings that have changed end it.
"""

import time

from msgspec import Struct
from msgspec.structs import replace

from api.authentication import Caller
from domain.errors import RateLimited
from domain.limits import NANO_PER_S

MAX_KEYS = 10_000


class _Refusal(Struct, frozen=True):
    since_s: float
    until_s: float
    key_version: int
    error: RateLimited


class RateRefusals:
    """What one process knows of them. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self._by_key: dict[str, _Refusal] = {}

    def note(self, caller: Caller, error: RateLimited, since_s: float) -> None:
        """Remember a refusal for its rate, of a request that asked for admission at `since_s`."""
        assert error.retry_after_s is not None, "a rate has room again"
        if len(self._by_key) >= MAX_KEYS:
            now_s = time.monotonic()
            self._by_key = {key: one for key, one in self._by_key.items() if one.until_s > now_s}
            if len(self._by_key) >= MAX_KEYS:
                return
        self._by_key[caller.key_id] = _Refusal(since_s, since_s + error.retry_after_s, caller.key_version, error)

    def check(self, caller: Caller) -> None:
        """Let a caller pass that was not refused, or whose time has come.

        Raises:
            RateLimited: its rate has no room yet.

        """
        refusal = self._by_key.get(caller.key_id)
        if refusal is None:
            return
        now_s = time.monotonic()
        if now_s >= refusal.until_s or caller.key_version != refusal.key_version:
            del self._by_key[caller.key_id]
            return
        raise _later(refusal, now_s)


def _later(refusal: _Refusal, now_s: float) -> RateLimited:
    """The refusal as it reads now."""
    error = RateLimited(refusal.error.message, details=refusal.error.details, retry_after_s=refusal.until_s - now_s)
    limit_status = refusal.error.limit_status
    if limit_status is not None and limit_status.requests is not None:
        passed_ns = round((now_s - refusal.since_s) * NANO_PER_S)
        reset_ns = max(0, limit_status.requests.reset_ns - passed_ns)
        limit_status = replace(limit_status, requests=replace(limit_status.requests, reset_ns=reset_ns))
    error.limit_status = limit_status
    return error
