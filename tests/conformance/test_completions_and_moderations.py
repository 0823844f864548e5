"""OpenAI's older completions and its moderations go through its SDK as to the vendor, metered and held to budgets."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai as openai_sdk
import pytest

from tests.support.gateway import Gateway
from tests.support.sdk_clients import CLAUDE, Project, SdkClients, resolved

INSTRUCT = "gpt-3.5-turbo-instruct"
COST = Decimal("0.0025")
"""1,000 tokens at $1.50 a million, and 500 at $2."""


@pytest.fixture
def alone(gateway: Gateway) -> Iterator[Project]:
    created = Project(gateway)
    yield created
    created.close()


async def test_a_completion_has_its_cost(openai: Any) -> None:
    answer = await resolved(openai.completions.create(model=INSTRUCT, prompt="Say [[tokens=1000/500]]", max_tokens=500))
    assert (answer.object, answer.usage.prompt_tokens, answer.usage.completion_tokens) == ("text_completion", 1000, 500)
    assert Decimal(str(answer.usage.cost)) == COST


async def test_every_prompt_is_answered(openai: Any) -> None:
    answer = await resolved(openai.completions.create(model=INSTRUCT, prompt=["one", "two"], n=2, best_of=3))
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


def test_a_streamed_completion_has_usage_if_it_was_asked_for(gateway: Gateway, key: str) -> None:
    prompt = "Say [[tokens=1000/500]]"
    # Validation is not strict: the SDK's own type of a piece has no `finish_reason: null`, which the vendor sends.
    client = openai_sdk.OpenAI(base_url=f"{gateway.address}/v1", api_key=key, max_retries=0)
    *pieces, last = client.completions.create(
        model=INSTRUCT, prompt=prompt, stream=True, stream_options={"include_usage": True}
    )
    assert "".join(piece.choices[0].text for piece in pieces).startswith("answer to")
    assert Decimal(str(last.usage.cost)) == COST
    plain = list(client.completions.create(model=INSTRUCT, prompt=prompt, stream=True))
    assert all(piece.choices and piece.usage is None for piece in plain)
    client.close()


async def test_a_moderation_costs_nothing(openai: Any) -> None:
    answer = await resolved(openai.moderations.create(input=["be kind", "kill"]))
    assert [result.flagged for result in answer.results] == [False, True]
    raw = await resolved(openai.moderations.with_raw_response.create(input="x", model="omni-moderation-latest"))
    assert raw.headers["x-gateway-cost-usd"] == "0"


def test_both_are_operations_of_the_usage(gateway: Gateway, alone: Project) -> None:
    clients = SdkClients(gateway, alone.key)
    clients.openai.completions.create(model=INSTRUCT, prompt="Say [[tokens=1000/500]]")
    clients.openai.moderations.create(input="x")
    lines = {line["operation"]: line for line in alone.costs("operation")}
    assert Decimal(str(lines["completions"]["cost"])) == COST
    assert (lines["moderations"]["requests"], lines["moderations"]["cost"]) == (1, 0)
    assert lines["moderations"]["unpricedRequests"] == 0
    clients.openai.close()


def test_both_hold_to_a_budget(gateway: Gateway, alone: Project) -> None:
    key = alone.issue(dailyBudget=0.001)["apiKey"]
    with SdkClients(gateway, key).openai as client:
        assert client.moderations.create(input="costs nothing").results
        with pytest.raises(openai_sdk.RateLimitError) as spent:
            client.completions.create(model=INSTRUCT, prompt="Say", max_tokens=1000, best_of=2)
        assert spent.value.code == "insufficient_quota"
        assert client.completions.create(model=INSTRUCT, prompt="Say", max_tokens=5).choices


def test_a_model_of_another_vendor_completes_no_text(sync_sdks: SdkClients) -> None:
    with pytest.raises(openai_sdk.BadRequestError) as refused:
        sync_sdks.openai.completions.create(model=CLAUDE, prompt="Say")
    assert refused.value.param == "model"
