"""The relay forwards most events at once, and holds some back for the end of the stream."""

from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.dialects.codec import StreamSummary
from domain.tokens import TokenUsage
from infra.jobs import StreamFormat
from tests.support.sdk_streams import events_of
from tests.unit.test_estimated_usage import JOB, relay_of

USAGE = b'"usage":{"prompt_tokens":1,"completion_tokens":2}'
END = StreamSummary(usage=TokenUsage(input=1, output=2), cost_usd=Decimal("0.5"), latency_ms=1)


def chunk(index: int, text: bytes, finish: bytes = b"null") -> bytes:
    choice = b'{"index":%d,"delta":{"content":"%b"},"finish_reason":%b}' % (index, text, finish)
    return b'data: {"id":"c","model":"m","choices":[' + choice + b"]," + USAGE + b"}\n\n"


FIRST, FIRST_END = chunk(0, b"a"), chunk(0, b"", b'"stop"')
SECOND, SECOND_END = chunk(1, b"b"), chunk(1, b"", b'"stop"')
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param([FIRST, FIRST_END, SECOND, SECOND_END, DONE], id="one after the other"),
        pytest.param([FIRST, SECOND, FIRST_END, SECOND, SECOND_END, DONE], id="side by side"),
    ],
)
def test_no_choice_waits_for_the_end_of_another(stream: list[bytes]) -> None:
    relay = relay_of(replace(JOB, stream=StreamFormat(surface="openai", with_usage=True)))
    sent: list[bytes] = []
    for one in stream:
        relay.take(events_of(one), sent)
    assert b"".join(sent) == b"".join(stream[:-2])
    final_events = relay.final_events(END)
    assert final_events.count(b'"cost":0.5') == 1
    assert final_events.replace(b',"cost":0.5', b"") == b"".join(stream[-2:])


def test_held_back_events_hide_unrequested_usage() -> None:
    relay = relay_of(replace(JOB, stream=StreamFormat(surface="openai", with_usage=False)))
    sent: list[bytes] = []
    relay.take(events_of(FIRST + FIRST_END + SECOND), sent)
    assert b"".join(sent) == (FIRST + FIRST_END + SECOND).replace(b"," + USAGE, b"")
