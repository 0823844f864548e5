"""The model of the hold protocol: money is covered in every reachable state, and every rule is needed."""

import pytest

from tests.model.holds import Bounds, Mutant, search

ONE_REQUEST = Bounds(limit=2, requests=1, deliveries=3, attempts=3)
TWO_REQUESTS = Bounds(limit=2, requests=2, deliveries=2, attempts=2)
DISPATCHED = Bounds(limit=2, requests=1, deliveries=3, attempts=2, has_dispatch=True)
FAILING = Bounds(limit=3, requests=1, deliveries=2, attempts=3, has_failures=True)
ASKING = Bounds(limit=2, requests=1, deliveries=2, attempts=2, has_failures=True, has_questions=True)


@pytest.mark.parametrize("bounds", [ONE_REQUEST, TWO_REQUESTS, DISPATCHED, FAILING, ASKING])
def test_money_is_covered_in_every_reachable_state(bounds: Bounds) -> None:
    states, way_to_fault = search(bounds)
    assert way_to_fault == []
    assert states > 1_000


@pytest.mark.parametrize("mutant", Mutant)
def test_every_rule_of_the_protocol_is_needed(mutant: Mutant) -> None:
    ways = (search(bounds, mutant)[1] for bounds in (ONE_REQUEST, FAILING, ASKING, TWO_REQUESTS))
    assert next(filter(None, ways), None), mutant.value
