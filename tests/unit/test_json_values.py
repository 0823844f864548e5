"""The number of JSON values in a body is bounded. Commas inside a text do not count."""

import json

import pytest

from domain.decoding import MAX_JSON_VALUES, check_values
from domain.dialects.openai.codec import OpenAiChat, OpenAiEmbeddings
from domain.dialects.passthrough.inspect import read_passthrough
from domain.errors import BodyTooLarge


@pytest.mark.parametrize(
    "value",
    [b'{"a":1}', b"0", b'""', b"[]", b'{"a":{"b":[1,2]}}', b'"\\\\"', b'"\\""'],
    ids=["objects", "numbers", "texts", "lists", "nested", "backslashes", "quotes"],
)
def test_more_values_than_allowed_are_refused(value: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        check_values(b"[" + b",".join([value] * (MAX_JSON_VALUES + 1)) + b"]")


@pytest.mark.parametrize(
    "text",
    [b"a,b[c{" * 1_000_000, b'\\"a\\",' * 1_000_000, b"\\\\," * 1_000_000, b'\\\\\\",[{' * 1_000_000],
    ids=["plain", "quotes", "backslashes", "both"],
)
def test_a_text_is_one_value(text: bytes) -> None:
    body = b'{"content":"' + text + b'"}'
    assert json.loads(body)
    check_values(body)


def test_as_many_values_as_allowed_pass() -> None:
    check_values(b"[" + b",".join([b"1000"] * (MAX_JSON_VALUES - 2)) + b"]")


@pytest.mark.parametrize("body", [b'"' * 2_000_000, b"[" + b'"\\' * 1_000_000, b"," * 400_000 + b'"' + b" " * 700_000])
def test_invalid_json_is_left_to_the_decoder(body: bytes) -> None:
    try:
        check_values(body)
    except BodyTooLarge:
        assert body.count(b'"') + body.count(b",") > MAX_JSON_VALUES


def test_the_numbers_of_a_tokenized_text_count_as_their_digits() -> None:
    tokens = [*range(100), -5, 100_256]
    body = json.dumps({"model": "m", "input": tokens}).encode()
    counted = read_passthrough(body, OpenAiEmbeddings()).input_tokens
    one_by_one = read_passthrough(json.dumps({"model": "m", "input": [*tokens, "x"]}).encode(), OpenAiEmbeddings())
    assert counted >= sum(len(str(token)) for token in tokens)
    assert (
        one_by_one.input_tokens - counted == 1 + 16
    )  # the text's token, and the tokens that are added for a list item


def test_a_vendors_request_with_too_many_values_is_refused() -> None:
    with pytest.raises(BodyTooLarge, match="500000 JSON values"):
        read_passthrough(b'{"model":"m","messages":[' + b'{"a":1},' * 1_000_000 + b"0]}", OpenAiChat())
