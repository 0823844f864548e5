"""The byte budget: an owner gets no more than is still free, and all bytes are released."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Overloaded
from infra.byte_budget import ByteBudget, BytesInHand

LIMIT = 1_000


def test_one_owner_gets_half_and_leaves_room_for_another() -> None:
    budget = ByteBudget(LIMIT)
    greedy, other = BytesInHand(budget, "greedy"), BytesInHand(budget, "other")
    greedy.take(500)
    with pytest.raises(Overloaded) as refused:
        greedy.take(1)
    assert refused.value.retry_after_s == 1
    other.take(250)
    assert budget.in_hand_bytes == 750
    greedy.close()
    other.take(125)
    other.close()
    assert budget.in_hand_bytes == 0


def test_requests_of_one_owner_share_its_part() -> None:
    budget = ByteBudget(LIMIT)
    first, second = BytesInHand(budget, "one"), BytesInHand(budget, "one")
    first.take(300)
    with pytest.raises(Overloaded):
        second.take(201)
    first.release(200)
    second.take(201)
    first.close()
    second.close()
    second.close()
    assert budget.in_hand_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 600), st.booleans()), max_size=60))
def test_there_is_always_room_for_one_more(steps: list[tuple[int, int, bool]]) -> None:
    budget = ByteBudget(LIMIT)
    requests = [BytesInHand(budget, f"owner {number}") for number in range(5)]
    for number, size, closes in steps:
        if closes:
            requests[number].close()
        else:
            try:
                requests[number].take(size)
            except Overloaded:
                continue
        assert 0 <= budget.in_hand_bytes < LIMIT
    newcomer = BytesInHand(budget, "newcomer")
    newcomer.take((LIMIT - budget.in_hand_bytes) // 2)
    for request in (*requests, newcomer):
        request.close()
    assert budget.in_hand_bytes == 0
