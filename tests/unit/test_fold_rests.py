"""The pause between two folds."""

import pytest

from projections.runner import BATCH_EVENTS, BUSY_EVENTS, MAX_REST_S, MIN_REST_S, rest_s


@pytest.mark.parametrize(
    ("folded", "took_s", "expected_s"),
    [
        (1, 0.0, MIN_REST_S),
        (BUSY_EVENTS - 1, 0.005, 0.04),
        (BUSY_EVENTS - 1, 1.0, MAX_REST_S),
        (BUSY_EVENTS, 0.0, MAX_REST_S),
        (BATCH_EVENTS - 1, 0.0, MAX_REST_S),
        (BATCH_EVENTS, 1.0, 0.0),
    ],
)
def test_many_events_share_a_fold_and_a_lone_one_is_seen_soon(folded: int, took_s: float, expected_s: float) -> None:
    assert rest_s(folded, BATCH_EVENTS, took_s) == pytest.approx(expected_s)
