"""A tool that its provider runs is called no more often than its request pays for."""

from typing import Any

import pytest

from domain.dialects.passthrough.hosted import limit_changes

CALLS = 3


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (2, 2),
        (2.0, 2),
        (2.5, 2),
        (5, CALLS),
        (float("inf"), CALLS),
        (None, CALLS),
        (0, CALLS),
        (-1, CALLS),
        (True, CALLS),
        ("9", CALLS),
        ([2], CALLS),
        ({}, CALLS),
    ],
)
def test_a_limit_that_is_none_or_too_high_becomes_what_the_request_pays_for(given: Any, sent: int) -> None:
    tool = {"type": "web_search_20250305", "name": "web_search"}
    changes = limit_changes([tool | {"max_uses": given}], CALLS, in_request=False)
    assert changes == {"tools": [tool | {"max_uses": sent}]}
    assert type(changes["tools"][0]["max_uses"]) is int
