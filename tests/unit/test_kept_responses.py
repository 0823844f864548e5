"""Which responses a provider keeps, so that it can be asked what they have cost."""

import pytest

from domain.dialects.codec import Codec
from domain.dialects.registry import CODECS


def codec(operation: str, dialect: str = "openai") -> Codec:
    return next(one for one in CODECS if (one.dialect, one.operation) == (dialect, operation))


@pytest.mark.parametrize(
    ("operation", "content", "is_kept"),
    [
        ("responses", b'{"input":"hi"}', True),
        ("responses", b'{"input":"hi","store":null}', True),
        ("responses", b'{"input":"hi","store":true}', True),
        ("responses", b'{"input":"hi","store":false}', False),
        ("responses", b'{"input":"say \\"store\\""}', True),
        ("chat", b'{"messages":[]}', False),
        ("chat", b'{"messages":[],"store":true}', True),
        ("chat", b'{"messages":[],"store":"yes"}', False),
        ("embeddings", b'{"input":"hi","store":true}', False),
    ],
)
def test_a_response_is_kept_if_its_request_says_so_or_by_the_vendors_default(
    operation: str, content: bytes, is_kept: bool
) -> None:
    assert codec(operation).keeps_response(content) is is_kept


def test_a_message_of_a_vendor_that_keeps_none_cannot_be_asked_for() -> None:
    assert not codec("chat", "anthropic").keeps_response(b'{"store":true}')


def test_a_response_stands_below_the_path_of_its_call() -> None:
    assert codec("responses").kept_path("resp_1") == "/responses/resp_1"
    assert codec("chat").kept_path("chatcmpl-1") == "/chat/completions/chatcmpl-1"
