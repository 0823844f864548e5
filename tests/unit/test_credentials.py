"""Several credentials of one provider: which one a call is made with, and how the installation's are set."""

import random
from collections import Counter
from operator import itemgetter

import pytest

from domain.credentials import drawn
from infra.settings import NamedKey, SettingsError, load_settings

KEYS = [("a", 3), ("b", 1), ("spare", 0)]


def test_calls_are_spread_over_credentials_by_their_weights() -> None:
    draw = random.Random(1).random
    first = Counter(drawn(KEYS, itemgetter(1), draw)[0][0] for _ in range(4_000))
    assert set(first) == {"a", "b"}
    assert 2.7 < first["a"] / first["b"] < 3.3


def test_every_credential_is_tried_once_and_those_without_weight_last() -> None:
    draw = random.Random(2).random
    for _ in range(100):
        order = drawn(KEYS, itemgetter(1), draw)
        assert sorted(order) == sorted(KEYS)
        assert order[-1] == ("spare", 0)


def test_the_installations_further_keys_have_names_and_weights() -> None:
    settings = load_settings(
        {"OPENAI_API_KEY": "sk-one", "GATEWAY_OPENAI_API_KEYS": "eu=sk-two==, us:3=sk-three", "GATEWAY_PORT": "0"}
    )
    assert settings.openai_api_keys == (NamedKey("eu", "sk-two=="), NamedKey("us", "sk-three", 3))
    assert settings.provider_keys == {"openai": "sk-one"}
    assert settings.installation_credentials == {"openai": ("default", "eu", "us")}
    assert {"sk-two==", "sk-three"} <= set(settings.secret_texts)
    assert "sk-" not in repr(settings.openai_api_keys)


def test_a_provider_with_named_keys_alone_has_keys() -> None:
    settings = load_settings({"GATEWAY_ANTHROPIC_API_KEYS": "eu=sk-ant-two"})
    assert settings.provider_keys == {"anthropic": ""}
    assert settings.installation_credentials == {"anthropic": ("eu",)}


def test_an_api_process_without_the_keys_knows_their_names() -> None:
    settings = load_settings({"GATEWAY_INSTALLATION_PROVIDERS": "openai,openai/eu,anthropic/us"})
    assert settings.provider_keys == {"openai": "", "anthropic": ""}
    assert settings.installation_credentials == {"openai": ("default", "eu"), "anthropic": ("us",)}


@pytest.mark.parametrize(
    "text", ["sk-nameless-secret", "eu=", "eu:x=sk-a", "default=sk-a", "eu=sk-a,eu=sk-b", "E U=sk-a"]
)
def test_a_wrong_list_of_keys_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"GATEWAY_OPENAI_API_KEYS": text})
    assert str(raised.value).startswith("GATEWAY_OPENAI_API_KEYS is ")
    assert "sk-" not in str(raised.value)
