"""The memory budget of one process for request bodies, and for responses that are on their way to the caller.

An owner is a project, or a client address until the request's key has been checked. No owner may hold more bytes than
are still free. So one owner alone gets at most half of the budget, two get a third each, and there is always room for
one more. (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998, alpha = 1.)
"""

from collections import deque

from domain.errors import Overloaded

RETRY_AFTER_S = 1.0


class ByteBudget:
    """Counts the bytes that one process holds, by owner."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._by_owner: dict[str, int] = {}
        self.in_hand_bytes = 0

    def take(self, owner: str, size_bytes: int) -> None:
        """Count bytes as held.

        Raises:
            Overloaded: the process or the owner holds too many already. Nothing is counted.

        """
        owned_bytes = self._by_owner.get(owner, 0) + size_bytes
        in_hand_bytes = self.in_hand_bytes + size_bytes
        if owned_bytes > self._limit_bytes - in_hand_bytes:
            raise Overloaded(
                "this process has as many bytes of requests and answers in hand as it may: try again in a moment",
                retry_after_s=RETRY_AFTER_S,
            )
        self._by_owner[owner] = owned_bytes
        self.in_hand_bytes = in_hand_bytes

    def release(self, owner: str, size_bytes: int) -> None:
        """Count bytes as released."""
        self.in_hand_bytes -= size_bytes
        left_bytes = self._by_owner.pop(owner, 0) - size_bytes
        if left_bytes:
            self._by_owner[owner] = left_bytes


class BytesInHand:
    """The bytes that one request holds of the budget."""

    def __init__(self, budget: ByteBudget, owner: str) -> None:
        self._budget = budget
        self.owner = owner
        self._taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Count bytes for this request. Raises as `ByteBudget.take`."""
        self._budget.take(self.owner, size_bytes)
        self._taken_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Count some of the bytes as released."""
        self._budget.release(self.owner, size_bytes)
        self._taken_bytes -= size_bytes

    def close(self) -> None:
        """Count all of the bytes as released."""
        self._budget.release(self.owner, self._taken_bytes)
        self._taken_bytes = 0


class CountedParts(deque[bytes]):
    """Parts of a response that wait for its caller. They count against the budget for as long as they wait."""

    def __init__(self, in_hand: BytesInHand) -> None:
        super().__init__()
        self._in_hand = in_hand

    def append(self, part: bytes) -> None:
        """Add a part. Raises as `ByteBudget.take`."""
        self._in_hand.take(len(part))
        super().append(part)

    def popleft(self) -> bytes:
        """Remove and return the first part."""
        part = super().popleft()
        self._in_hand.release(len(part))
        return part

    def clear(self) -> None:
        """Drop every part."""
        self._in_hand.release(sum(map(len, self)))
        super().clear()
