"""The metric labels of admission's refusals, which dashboards use."""

from typing import get_args

from api.metrics import REFUSAL_REASONS
from infra.admission import Outcome

DECIDED_OTHERWISE = {"admitted", "hit", "coalesced", "retry", "stale", "queued", "replay", "mismatch"}


def test_every_refusal_has_its_public_label() -> None:
    assert REFUSAL_REASONS == {
        "rate_limit": "rate",
        "token_limit": "tokens",
        "concurrency": "busy",
        "budget_held": "full",
        "budget_spent": "spent",
        "unpriced": "unpriced",
    }
    assert set(REFUSAL_REASONS) | DECIDED_OTHERWISE == set(get_args(Outcome))
