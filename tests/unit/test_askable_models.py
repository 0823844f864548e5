"""The list of models has what the key can ask, and nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest

from api.askable_models import askable_model, askable_models
from domain.errors import UnknownModel
from domain.routing import NamedProvider, resolve_target
from infra.price_book import SPECIFIED_MODELS, PriceBook

BOTH = {"openai": "sk-o", "anthropic": "sk-a"}
MINE = NamedProvider(name="mine", kind="openai", base_url="https://a.example/v1", models=("llama", "org/model"))


def services(keys: dict[str, str], upstream_models: dict[str, str] | None = None) -> Any:
    aliases = upstream_models or {}
    return SimpleNamespace(
        prices=PriceBook(),
        settings=SimpleNamespace(provider_keys=keys, upstream_models=aliases),
        planner=SimpleNamespace(target=lambda caller, model: resolve_target(model, aliases, caller.providers)),
    )


def caller(models: list[str] | None = None, *, own: str = "", named: tuple[NamedProvider, ...] = ()) -> Any:
    credentials = frozenset(own.split())
    return SimpleNamespace(settings=SimpleNamespace(models=models), own_credentials=credentials, providers=named)


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
