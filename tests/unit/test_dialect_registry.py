"""The registry of codecs: lists the operations of each dialect, and chooses between passthrough and translation."""

import pytest

from domain.canonical.chat import ChatRequest, UserMessage
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.registry import CODECS, DIALECTS, NATIVE, PROVIDER_KINDS, DialectRegistry, ProviderKind
from domain.dialects.request_body import CanonicalRequest
from domain.dialects.translation import Passthrough, Translated
from domain.errors import InvalidRequest
from domain.routing import ANTHROPIC, BUILT_IN, ECHO, OPENAI, Kind, Target


@pytest.mark.parametrize(
    ("dialect", "kind", "way"),
    [
        ("openai", OPENAI, Passthrough),
        ("openai", ANTHROPIC, Translated),
        ("openai", ECHO, Translated),
        ("anthropic", ANTHROPIC, Passthrough),
        ("anthropic", OPENAI, Translated),
        (NATIVE, OPENAI, Translated),
        (NATIVE, ANTHROPIC, Translated),
    ],
)
def test_a_request_is_passed_through_to_a_provider_of_its_dialect_alone(dialect: str, kind: Kind, way: type) -> None:
    assert isinstance(DIALECTS.choose(DIALECTS.codec(dialect, "chat"), kind), way)
    chosen = DIALECTS.chosen(dialect, "chat", kind, is_passthrough=way is Passthrough)
    assert isinstance(chosen, way)


def test_an_operation_that_is_not_translated_is_refused_for_other_providers() -> None:
    body = CanonicalRequest(ChatRequest(messages=[UserMessage(content="x")]))
    target = Target(model="echo", provider=ECHO, kind=ECHO, upstream_model="echo")
    with pytest.raises(InvalidRequest, match=r"do: openai$") as refused:
        DIALECTS.adapt(body, target, "moderations")
    assert refused.value.field == "model"


def test_each_kind_has_a_built_in_provider_of_its_name() -> None:
    assert {kind: kind for kind in PROVIDER_KINDS} == BUILT_IN


def test_two_registries_stand_side_by_side() -> None:
    smaller = DialectRegistry([OpenAiChat()], {OPENAI: PROVIDER_KINDS[OPENAI]})
    larger = smaller.with_dialect(CODECS[3:], {ANTHROPIC: ProviderKind(dialect="anthropic")})
    with pytest.raises(KeyError):
        smaller.codec("anthropic", "chat")
    assert larger.codec("anthropic", "chat") is DIALECTS.codec("anthropic", "chat")


def test_an_operation_of_a_dialect_has_one_codec() -> None:
    with pytest.raises(AssertionError):
        DialectRegistry([OpenAiChat(), OpenAiChat()], {})
