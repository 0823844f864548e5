"""The list of models has what the key can ask, and nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest

from api.askable_models import ROUTES_PROVIDER, askable_model, askable_models
from api.target_planner import TargetPlanner
from domain.errors import UnknownModel
from domain.routes import RouteSettings, RouteTarget
from domain.routing import BUILT_IN, NamedProvider
from infra.price_book import SPECIFIED_MODELS, PriceBook

BOTH = {"openai": "sk-o", "anthropic": "sk-a"}
MINE = NamedProvider(name="mine", kind="openai", base_url="https://a.example/v1", models=("llama", "org/model"))


def services(keys: dict[str, str], upstream_models: dict[str, str] | None = None) -> Any:
    aliases = upstream_models or {}
    return SimpleNamespace(
        prices=PriceBook(),
        settings=SimpleNamespace(provider_keys=keys, upstream_models=aliases),
        planner=TargetPlanner(kinds=BUILT_IN, upstream_models=aliases),
    )


def caller(
    models: list[str] | None = None, *, own: str = "", named: tuple[NamedProvider, ...] = (), **routes: RouteSettings
) -> Any:
    return SimpleNamespace(
        settings=SimpleNamespace(models=models),
        own_credentials=frozenset(own.split()),
        providers=named,
        routes=routes,
        route=routes.get,
    )


def route(*models: str) -> RouteSettings:
    return RouteSettings(groups=(tuple(RouteTarget(model=model) for model in models),))


def names(*args: Any) -> set[str]:
    return {model.name for model in askable_models(*args)}


def test_without_a_credential_only_the_built_in_model_is_listed() -> None:
    assert names(services({}), caller()) == {"echo"}


@pytest.mark.parametrize(
    ("vendor", "theirs", "others"), [("openai", "gpt-4o", "claude-"), ("anthropic", "claude-", "gpt-")]
)
def test_models_are_listed_whose_provider_has_a_credential(vendor: str, theirs: str, others: str) -> None:
    for listed in (names(services({vendor: "k"}), caller()), names(services({}), caller(own=vendor))):
        assert any(name.startswith(theirs) for name in listed)
        assert not any(name.startswith(others) for name in listed)


@pytest.mark.parametrize(
    "name",
    [
        "ada",
        "babbage",
        "curie",
        "davinci",
        "text-davinci-003",
        "computer-use",
        "ft:gpt-3.5-turbo-",
        "gpt-4o-mini-2024-07-18.ft-",
        "gpt-4o-realtime-preview",
        "gpt-4o-transcribe",
        "gpt-5-image",
        "claude-v1",
        "claude-2",
        "claude-3-sonnet",
        "gpt-4-32k",
        "o1-preview",
    ],
)
def test_what_nobody_can_ask_is_not_listed(name: str) -> None:
    assert name not in names(services(BOTH), caller())


def test_the_specifications_names_are_listed() -> None:
    assert names(services(BOTH), caller()) > SPECIFIED_MODELS


def test_current_models_of_every_kind_are_listed() -> None:
    listed = names(services(BOTH), caller())
    assert {"claude-sonnet-5-5", "gpt-6-luna", "text-embedding-3-small", "davinci-002"} < listed


def test_a_key_that_is_held_to_models_sees_those() -> None:
    held = caller(["gpt-4o", "claude-sonnet-5-5-20260801", "mine/llama", "nowhere"], named=(MINE,))
    assert names(services(BOTH), held) == {"gpt-4o", "claude-sonnet-5-5-20260801", "mine/llama"}
    assert names(services({"openai": "k"}), held) == {"gpt-4o", "mine/llama"}


def test_the_models_of_a_provider_by_configuration_are_listed_by_both_names() -> None:
    assert names(services({}), caller(named=(MINE,))) == {"echo", "mine/llama", "mine/org/model", "llama", "org/model"}


def test_a_retired_name_is_listed_once_another_model_answers_it() -> None:
    assert "claude-3-sonnet" in names(services(BOTH, {"claude-3-sonnet": "claude-sonnet-5-5"}), caller())


@pytest.mark.parametrize(
    "name", ["gpt-4o", "claude-sonnet-5-5-20260801", "anthropic/claude-sonnet-5-5", "echo", "mine/x/y"]
)
def test_a_model_is_shown_by_every_name_that_it_can_be_asked_by(name: str) -> None:
    anything = NamedProvider(name="mine", kind="openai", base_url="https://a.example/v1")
    assert askable_model(services(BOTH), caller(named=(anything,)), name).name == name


@pytest.mark.parametrize("name", ["nowhere", "gpt-nowhere", "ada", "claude-3-sonnet", "mine/other"])
def test_a_model_that_cannot_be_asked_is_unknown(name: str) -> None:
    with pytest.raises(UnknownModel):
        askable_model(services(BOTH), caller(named=(MINE,)), name)


def test_a_model_outside_of_the_keys_list_is_unknown() -> None:
    with pytest.raises(UnknownModel):
        askable_model(services(BOTH), caller(["gpt-4o"]), "gpt-4o-mini")


def test_a_route_is_listed_with_what_all_its_targets_take() -> None:
    asker = caller(fast=route("gpt-4o", "gpt-3.5-turbo"))
    listed = {model.name: model for model in askable_models(services(BOTH), asker)}
    assert (listed["fast"].provider, listed["fast"].price) == (ROUTES_PROVIDER, None)
    assert listed["fast"].context_window == listed["gpt-3.5-turbo"].context_window == 16_385
    assert askable_model(services(BOTH), asker, "fast") == listed["fast"]


def test_a_route_stands_in_the_place_of_a_model_of_its_name() -> None:
    asker = caller(**{"gpt-4o": route("openai/gpt-4o", "claude-3-haiku")})
    (listed,) = [model for model in askable_models(services(BOTH), asker) if model.name == "gpt-4o"]
    assert listed.provider == ROUTES_PROVIDER


def test_a_route_without_a_target_that_has_a_credential_is_not_listed() -> None:
    asker = caller(fast=route("gpt-4o"), either=route("gpt-4o", "claude-3-haiku"))
    assert names(services({"anthropic": "k"}), asker) >= {"either"}
    assert "fast" not in names(services({"anthropic": "k"}), asker)
    with pytest.raises(UnknownModel):
        askable_model(services({"anthropic": "k"}), asker, "fast")


def test_a_key_that_is_held_to_a_route_sees_the_route_alone() -> None:
    asker = caller(["fast"], fast=route("gpt-4o"), other=route("gpt-4o-mini"))
    assert names(services(BOTH), asker) == {"fast"}
    with pytest.raises(UnknownModel):
        askable_model(services(BOTH), asker, "gpt-4o")
