"""The order in which a request tries the targets of a route."""

import random
from collections import Counter

import pytest

from domain.routes import RouteSettings, RouteTarget, ordered

A, B, SPARE = RouteTarget(model="a", weight=3), RouteTarget(model="b", weight=1), RouteTarget(model="c", weight=0)
LAST = RouteTarget(model="d")
SETTINGS = RouteSettings(groups=((A, B, SPARE), (LAST,)))


def test_weights_decide_which_target_of_a_group_is_tried_first() -> None:
    draw = random.Random(1).random
    first = Counter(ordered(SETTINGS, draw)[0].model for _ in range(4_000))
    assert set(first) == {"a", "b"}
    assert 2.7 < first["a"] / first["b"] < 3.3


def test_each_target_is_tried_once_and_groups_in_their_order() -> None:
    draw = random.Random(2).random
    for _ in range(100):
        targets = ordered(SETTINGS, draw)
        assert sorted(target.model for target in targets) == ["a", "b", "c", "d"]
        assert targets[2:] == (SPARE, LAST)


def test_targets_without_weight_keep_their_order() -> None:
    settings = RouteSettings(groups=((SPARE, RouteTarget(model="e", weight=0)),))
    assert [target.model for target in ordered(settings, random.Random(3).random)] == ["c", "e"]


def test_a_target_has_the_part_of_its_weight_that_its_provider_has_room_for() -> None:
    draw, group = random.Random(5).random, ((RouteTarget(model="a"), RouteTarget(model="b"), RouteTarget(model="c")),)
    shares = {"a": 1.0, "b": 0.25, "c": 0.0}
    orders = [
        [target.model for target in ordered(RouteSettings(groups=group), draw, lambda target: shares[target.model])]
        for _ in range(4_000)
    ]
    first = Counter(order[0] for order in orders)
    assert first["a"] / first["b"] == pytest.approx(4, rel=0.2)
    assert all(order[2] == "c" for order in orders)
