"""A budget of bytes that one process has in memory for its callers: bodies of requests, and answers on their way.

No owner (a project, or an address before its key is known) may have more in hand than is still free. So a single owner
gets at most half, two get a third each, and there is always room for one more. (Choudhury and Hahne, "Dynamic queue
length thresholds for shared-memory packet switches", 1998, with alpha = 1.)
"""

from collections import deque

from domain.errors import Overloaded

RETRY_AFTER_S = 1.0


class ByteBudget:
    """The bytes in hand of one process, by owner."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._by_owner: dict[str, int] = {}
        self.in_hand_bytes = 0

    def take(self, owner: str, size_bytes: int) -> None:
        """Count bytes as in hand.

        Raises:
            Overloaded: the process has too many in hand, or the owner has. Nothing is counted.

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
        """Count bytes as gone."""
        self.in_hand_bytes -= size_bytes
        left_bytes = self._by_owner.pop(owner, 0) - size_bytes
        if left_bytes:
            self._by_owner[owner] = left_bytes


class BytesInHand:
    """The bytes that one request holds of the budget."""

    def __init__(self, budget: ByteBudget, owner: str) -> None:
        self._budget = budget
        self._owner = owner
        self._taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Count bytes for this request. Raises as `ByteBudget.take`."""
        self._budget.take(self._owner, size_bytes)
        self._taken_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Count some of them as gone."""
        self._budget.release(self._owner, size_bytes)
        self._taken_bytes -= size_bytes

    def close(self) -> None:
        """Count all of them as gone."""
        self._budget.release(self._owner, self._taken_bytes)
        self._taken_bytes = 0


class CountedParts(deque[bytes]):
    """Parts of an answer that wait for its caller, counted as in hand for as long as they wait."""

    def __init__(self, in_hand: BytesInHand) -> None:
        super().__init__()
        self._in_hand = in_hand

    def append(self, part: bytes) -> None:
        """Add a part. Raises as `ByteBudget.take`."""
        self._in_hand.take(len(part))
        super().append(part)

    def popleft(self) -> bytes:
        """Take the first part out."""
        part = super().popleft()
        self._in_hand.release(len(part))
        return part

    def clear(self) -> None:
        """Drop every part."""
        self._in_hand.release(sum(map(len, self)))
        super().clear()
