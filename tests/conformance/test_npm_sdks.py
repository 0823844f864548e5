"""The npm packages `openai` and `@anthropic-ai/sdk` work if their base URL is changed. `node/` has the scenarios.

Their versions are the newest that run on Node 20 (`openai` 7 needs 22).
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Gateway
from tests.support.node_packages import NodeMissingError, NodePackages
from tests.support.sdk_clients import Project
from tests.support.waiting import eventually

SURFACES = ["openai", "anthropic"]
VENDORS_MODELS = ["gpt-4o-mini", "claude-3-haiku"]
MODELS = [*VENDORS_MODELS, "echo"]
PROMPT = "[[say=Grüß Gott]] [[tokens=1000/500]]"
ANSWERS = [
    pytest.param("gpt-4o-mini", "Grüß Gott", 0.00045, id="gpt"),
    pytest.param("claude-3-haiku", "Grüß Gott", 0.000875, id="claude"),
    pytest.param("echo", f"echo: {PROMPT}", 0.000011, id="echo"),
]
"""By model: its response to `PROMPT`, and the cost in US dollars."""

ENDED = {"openai": "stop", "anthropic": "end_turn"}


class Package:
    """A vendor's package, connected to the gateway."""

    def __init__(self, node: NodePackages, surface: str, address: str, key: str) -> None:
        self.surface = surface
        self._run = partial(node.run, surface, address=address, key=key)

    def outcome(self, scenario: str, **options: Any) -> dict[str, Any]:
        """Return the outcome of a scenario: its result or its error, and the attempts."""
        return self._run(scenario=scenario, **options)

    def found(self, scenario: str, **options: Any) -> Any:
        """Return the result of a scenario."""
        outcome = self.outcome(scenario, **options)
        assert "found" in outcome, outcome
        return outcome["found"]

    def failed(self, scenario: str, **options: Any) -> dict[str, Any]:
        """Return the error of a scenario that failed at its first attempt."""
        outcome = self.outcome(scenario, **options)
        assert "error" in outcome, outcome
        assert len(outcome["attempts"]) == 1, outcome
        error: dict[str, Any] = outcome["error"]
        return error


@pytest.fixture(scope="module")
def node() -> Iterator[NodePackages]:
    try:
        packages = NodePackages.start()
    except NodeMissingError as why:
        pytest.skip(str(why))
    yield packages
    packages.stop()


@pytest.fixture(params=SURFACES)
def package(node: NodePackages, gateway: Gateway, key: str, request: pytest.FixtureRequest) -> Package:
    return Package(node, request.param, gateway.address, key)


@pytest.fixture
def openai(node: NodePackages, gateway: Gateway, key: str) -> Package:
    return Package(node, "openai", gateway.address, key)


@pytest.fixture
def anthropic(node: NodePackages, gateway: Gateway, key: str) -> Package:
    return Package(node, "anthropic", gateway.address, key)


@pytest.mark.parametrize(("model", "said", "cost"), ANSWERS)
def test_an_answer_tells_its_cost_and_its_request(package: Package, model: str, said: str, cost: float) -> None:
    found = package.found("create", model=model, prompt=PROMPT)
    assert (found["said"], found["finish"]) == (said, ENDED[package.surface])
    assert (found["usage"]["cost"], float(found["headers"]["x-gateway-cost-usd"])) == (cost, cost)
    assert found["requestId"].startswith("req_")
    assert found["headers"]["x-request-id"] == found["requestId"]


@pytest.mark.parametrize(("model", "said", "cost"), ANSWERS)
def test_a_stream_ends_with_usage_and_cost(package: Package, model: str, said: str, cost: float) -> None:
    found = package.found("stream", model=model, prompt=PROMPT, asksUsage=True)
    assert (found["said"], found["finishes"]) == (said, [ENDED[package.surface]])
    assert [usage["cost"] for usage in found["usages"]] == [cost]


@pytest.mark.parametrize("model", MODELS)
def test_stream_has_no_unrequested_usage(openai: Package, model: str) -> None:
    found = openai.found("stream", model=model, prompt=PROMPT, asksUsage=False)
    assert (found["finishes"], found["usages"]) == (["stop"], [])


@pytest.mark.parametrize(("model", "said", "cost"), ANSWERS)
def test_the_stream_helper_puts_the_answer_together(package: Package, model: str, said: str, cost: float) -> None:
    found = package.found("streamHelper", model=model, prompt=PROMPT)
    assert (found["said"], found["deltas"], found["finish"]) == (said, said, ENDED[package.surface])
    assert found["costs"] == [cost]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", VENDORS_MODELS)
def test_the_tool_runner_runs_to_the_end(package: Package, model: str, *, streams: bool) -> None:
    found = package.found("runTools", model=model, prompt="[[tool=add]]", streams=streams)
    results_by = {"openai": "tool", "anthropic": "user"}[package.surface]
    assert found["roles"] == ["user", "assistant", results_by, "assistant"]
    assert found["said"].endswith("the tools said 1 + 1 = 2")


@pytest.mark.parametrize("scenario", ["parse", "parseStream"])
@pytest.mark.parametrize("model", VENDORS_MODELS)
def test_an_answer_keeps_to_its_schema(package: Package, model: str, scenario: str) -> None:
    answer = '{"city": "Zürich", "days": 3}'
    prompt = f"[[say={answer}]] [[arguments={quote(answer)}]]"  # as a text, or of a model without schemas by a tool
    assert package.found(scenario, model=model, prompt=prompt) == {"city": "Zürich", "days": 3}


@pytest.mark.parametrize("model", ["text-embedding-3-small", "echo"])
def test_every_text_has_its_vector(openai: Package, model: str) -> None:
    found = openai.found("embeddings", model=model, input=["one", "two"])
    assert [len(vector) for vector in found["vectors"]] == [8, 8]
    assert found["usage"]["cost"] > 0


def test_a_response_tells_its_cost_and_its_request(openai: Package) -> None:
    found = openai.found("respond", model="gpt-4o-mini", prompt=PROMPT)
    assert (found["said"], found["status"], found["usage"]["cost"]) == ("Grüß Gott", "completed", 0.00045)
    assert found["requestId"].startswith("req_")


def test_a_response_streams_numbered_events_to_the_cost(openai: Package) -> None:
    found = openai.found("respondStream", model="gpt-4o-mini", prompt=PROMPT)
    assert found["said"] == "Grüß Gott"
    assert found["numbers"] == list(range(len(found["numbers"])))
    assert (found["last"]["type"], found["last"]["response"]["usage"]["cost"]) == ("response.completed", 0.00045)


def test_the_responses_stream_helper_puts_the_answer_together(openai: Package) -> None:
    found = openai.found("respondStreamHelper", model="gpt-4o-mini", prompt=PROMPT)
    assert (found["said"], found["usage"]["cost"]) == ("Grüß Gott", 0.00045)


def test_a_response_keeps_to_its_schema(openai: Package) -> None:
    prompt = '[[say={"city": "Zürich", "days": 3}]]'
    assert openai.found("respondParse", model="gpt-4o-mini", prompt=prompt) == {"city": "Zürich", "days": 3}


def test_a_response_is_given_by_the_other_vendors_model_as_well(openai: Package) -> None:
    found = openai.found("respond", model="claude-3-haiku", prompt=PROMPT)
    assert (found["status"], found["said"]) == ("completed", "Grüß Gott")


def test_tokens_are_counted_by_their_provider(anthropic: Package) -> None:
    found = anthropic.found("countTokens", model="claude-3-haiku", prompt="[[tokens=70/1]]")
    assert found["input_tokens"] == 70


def test_both_packages_list_every_model_to_the_last_page(openai: Package, anthropic: Package) -> None:
    of_openai = openai.outcome("models", model="claude-3.5-sonnet")
    of_anthropic = anthropic.outcome("models", model="gpt-4o-mini")
    names = of_openai["found"]["names"]
    assert of_anthropic["found"]["names"] == names
    assert {"gpt-4o", "gpt-3.5-turbo", "claude-3-opus", "echo", "text-embedding-3-small"} <= set(names)
    assert len(names) == len(set(names))
    assert (of_openai["found"]["one"], of_anthropic["found"]["one"]) == ("claude-3.5-sonnet", "gpt-4o-mini")
    assert len(of_anthropic["attempts"]) > 2, "a list of several pages, and the one model"


def test_an_unknown_key_is_an_authentication_error(package: Package) -> None:
    error = package.failed("create", model="gpt-4o-mini", prompt=PROMPT, key="gw_live_unknown")
    assert (error["kind"], error["status"]) == ("AuthenticationError", 401)
    assert error["type"] == {"openai": "invalid_request_error", "anthropic": "authentication_error"}[package.surface]
    assert error["requestId"].startswith("req_")


@pytest.mark.parametrize("scenario", ["create", "stream"])
def test_an_unknown_model_is_not_found(package: Package, scenario: str) -> None:
    error = package.failed(scenario, model="llama-nowhere", prompt=PROMPT)
    assert (error["kind"], error["status"]) == ("NotFoundError", 404)
    assert error["type"] == {"openai": "invalid_request_error", "anthropic": "not_found_error"}[package.surface]


@pytest.mark.parametrize("scenario", ["create", "stream"])
@pytest.mark.parametrize("model", VENDORS_MODELS)
def test_provider_refusal_is_a_bad_request(package: Package, model: str, scenario: str) -> None:
    error = package.failed(scenario, model=model, prompt="[[status=400]]")
    assert (error["kind"], error["status"], error["type"]) == ("BadRequestError", 400, "invalid_request_error")
    assert "refused with 400" in error["message"]


def test_a_provider_that_is_down_is_a_server_error(package: Package) -> None:
    error = package.failed("create", model="gpt-4o-mini", prompt="[[status=500]]", maxRetries=0)
    assert (error["kind"], error["status"]) == ("InternalServerError", 502)


@pytest.mark.parametrize("scenario", ["create", "stream"])
def test_an_exhausted_budget_is_not_tried_again(package: Package, project: Project, scenario: str) -> None:
    key = project.issue(dailyBudget=0)["apiKey"]
    error = package.failed(scenario, model="gpt-4o-mini", prompt=PROMPT, key=key)
    told = {
        "openai": ("RateLimitError", 429, "insufficient_quota"),
        "anthropic": ("PaymentRequiredError", 402, "billing_error"),
    }
    assert (error["kind"], error["status"], error["type"]) == told[package.surface]


@pytest.mark.parametrize("scenario", ["create", "stream"])
def test_a_rate_limit_is_waited_for(package: Package, project: Project, scenario: str) -> None:
    key = project.issue(rateLimit=40)["apiKey"]
    outcome = package.outcome(scenario, times=41, model="echo", prompt="hello", key=key)
    assert [found["said"] for found in outcome["found"]] == ["echo: hello"] * 41
    (refused,) = (attempt for attempt in outcome["attempts"] if attempt["status"] == 429)
    (again,) = (attempt for attempt in outcome["attempts"] if attempt["retry"] == 1)
    assert int(refused["retryAfter"]) >= 1
    assert again["status"] == 200


@pytest.mark.parametrize("model", VENDORS_MODELS)
async def test_aborted_stream_is_closed_at_the_provider(
    package: Package, upstream: RunningProvider, model: str
) -> None:
    prompt = f"{package.surface} leaves {model} [[chunks=200]] [[pace=20]]"
    found = package.found("abort", model=model, prompt=prompt)
    charges = partial(billed, upstream, prompt)
    await eventually(charges)
    (row,) = charges()
    assert found["seen"] < 200
    assert (row["end"], row["stream"]) == ("left", True)
    assert row["out"] < 200


def billed(upstream: RunningProvider, prompt: str) -> list[dict[str, Any]]:
    """Return the provider's charges for a prompt."""
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    return [row for row in upstream.bill() if row["prompt"] == digest]
