"""The page of a request has words for all that may become of a target."""

from typing import get_args, get_type_hints

from api.dashboard.pages.request import FATES, REASONS
from api.dashboard.pages.routes import CAUSE_WORDS
from domain.failover import DropReason, TargetFate
from domain.routes import FailoverCause


def test_every_fate_and_reason_of_a_target_has_words() -> None:
    assert set(FATES) == set(get_args(get_type_hints(TargetFate)["outcome"]))
    assert {"budget", "circuit", *get_args(DropReason)} == set(REASONS)
    assert set(CAUSE_WORDS) == set(get_args(FailoverCause))
