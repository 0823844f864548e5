"""Requests that come again, byte for byte."""

import pytest

from api.repeated_requests import MAX_REMEMBERED, MAX_REMEMBERED_BYTES, RepeatedRequests
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS
from domain.errors import InvalidRequest

CHAT = DIALECTS.codec("openai", "chat")
BODY = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}'
LONG = BODY.replace(b"hi", b"h" * MAX_REMEMBERED_BYTES)


@pytest.mark.parametrize("body", [BODY, LONG])
def test_a_request_is_read_the_same_again(body: bytes) -> None:
    requests = RepeatedRequests()
    first = requests.read(body, CHAT, finds_models=False)
    again = requests.read(body, CHAT, finds_models=False)
    assert first == again == read_passthrough(body, CHAT, is_cached=True)
    assert again.body == body


def test_what_a_key_may_not_use_is_looked_for_although_another_key_has_asked() -> None:
    requests = RepeatedRequests()
    body = BODY.replace(b'"max_tokens"', b'"metadata_model": "gpt-4o", "max_tokens"')
    requests.read(body, CHAT, finds_models=False)
    found = requests.read(body, CHAT, finds_models=True)
    assert found == read_passthrough(body, CHAT, is_cached=True, finds_models=True)


def test_requests_of_other_calls_are_read_by_their_own_codec() -> None:
    requests = RepeatedRequests()
    messages = DIALECTS.codec("anthropic", "chat")
    requests.read(BODY, CHAT, finds_models=False)
    assert requests.read(BODY, messages, finds_models=False).codec is messages


def test_a_refusal_is_repeated() -> None:
    requests = RepeatedRequests()
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            requests.read(b"[]", CHAT, finds_models=False)


def test_the_content_is_not_kept() -> None:
    requests = RepeatedRequests()
    requests.read(BODY, CHAT, finds_models=False)
    (kept,) = requests._read.values()
    assert kept.body == b""


def test_a_limited_number_is_remembered() -> None:
    requests = RepeatedRequests()
    for number in range(MAX_REMEMBERED + 1):
        requests.read(BODY.replace(b"hi", b"%d" % number), CHAT, finds_models=False)
    assert len(requests._read) == MAX_REMEMBERED
