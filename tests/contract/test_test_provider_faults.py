"""Failing calls of the test provider: their errors, their charges, and the recordings of every call."""

import http.client
import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.provider.direct import Direct
from tests.provider.running import RunningProvider
from tests.support.waiting import eventually

GPT = "gpt-4o-mini"
CLAUDE = "claude-3-haiku-20240307"
TOKENS = "[[tokens=70/30]] [[chunks=15]]"
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}


def request_body(wire: str, prompt: str, *, stream: bool = True) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {
        "chat": {"model": GPT, "messages": messages, "stream": stream},
        "messages": {"model": CLAUDE, "messages": messages, "max_tokens": 100, "stream": stream},
        "responses": {"model": GPT, "input": prompt, "stream": stream},
    }[wire]


class RawClient:
    """A client that reads bytes and may close at any time."""

    def __init__(self, provider: RunningProvider, wire: str, prompt: str) -> None:
        self._connection = http.client.HTTPConnection(provider.address.removeprefix("http://"), timeout=10)
        self.sent = json.dumps(request_body(wire, prompt), indent=1).encode()
        self._connection.request("POST", PATHS[wire], self.sent, {"X-Canary": "it is me"})
        self._answer = self._connection.getresponse()

    def some(self) -> bytes:
        return self._answer.read1()

    def rest(self) -> bytes:
        return self._answer.read()

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


@pytest.fixture
def reading(running: RunningProvider) -> Callable[[str, str], Any]:
    return lambda wire, prompt: closing(RawClient(running, wire, prompt))


@pytest.mark.parametrize("wire", PATHS)
async def test_disconnected_client_pays_for_the_sent_part(
    direct: Direct, reading: Callable[[str, str], Any], wire: str
) -> None:
    with reading(wire, f"{TOKENS} [[stall=5]]") as client:
        client.some()
        assert direct.billed() == [], "nothing is charged before the end"
    await eventually(direct.billed)
    (row,) = direct.billed()
    assert (row["in"], row["out"]) == (70, 10)
    assert (row["stream"], row["cut"], row["end"]) == (True, True, "left")
    assert 0 <= row["noticed_after_ms"] < 5_000


async def test_the_bill_has_the_delay_of_a_noticed_disconnect(
    direct: Direct, reading: Callable[[str, str], Any]
) -> None:
    with reading("chat", "[[stall=1]]") as client:
        client.some()
        time.sleep(0.3)  # noqa: ASYNC251 - the provider is another process
    await eventually(direct.billed)
    assert direct.billed()[0]["noticed_after_ms"] >= 250


async def test_disconnect_is_noticed_between_deltas(direct: Direct, reading: Callable[[str, str], Any]) -> None:
    with reading("chat", "[[chunks=100]] [[pace=20]]") as client:
        client.some()
    await eventually(direct.billed)
    (row,) = direct.billed()
    assert row["end"] == "left"
    assert 1 <= row["out"] < 20


async def test_disconnect_before_the_first_byte_pays_for_the_prompt(direct: Direct, running: RunningProvider) -> None:
    with pytest.raises(openai.APITimeoutError):
        direct.openai.with_options(timeout=0.1).chat.completions.create(**request_body("chat", "[[delay=600]]"))
    await eventually(direct.billed)
    (row,) = direct.billed()
    assert row["in"] > 0
    assert (row["out"], row["end"], row["noticed_after_ms"]) == (0, "left", None)
    assert running.state()["inFlight"] == 0


async def test_response_is_charged_in_full_after_a_disconnect(direct: Direct) -> None:
    with pytest.raises(openai.APITimeoutError):
        direct.openai.with_options(timeout=0.05).chat.completions.create(
            **request_body("chat", f"{TOKENS} [[delay=150]]", stream=False)
        )
    assert direct.billed() == []
    await eventually(direct.billed)
    assert direct.billed()[0]["end"] == "whole"


def test_cut_chat_stream_is_charged_for_the_sent_part(direct: Direct) -> None:
    chunks: list[Any] = []
    with pytest.raises(openai.APIConnectionError):
        chunks.extend(direct.openai.chat.completions.create(**request_body("chat", f"{TOKENS} [[cut=5]]")))
    said = [chunk.choices[0].delta.content for chunk in chunks]
    assert len([text for text in said if text]) == 5
    (row,) = direct.billed()
    assert (row["out"], row["cut"], row["end"], row["noticed_after_ms"]) == (10, True, "cut", None)


def test_cut_message_stream_is_charged_for_the_sent_part(direct: Direct) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        list(direct.anthropic.messages.create(**request_body("messages", f"{TOKENS} [[cut=3]] [[reasoning=6]]")))
    (row,) = direct.billed()
    assert row["out"] == 6 + (30 - 6) * 3 // 15, "the reasoning came first, then three of fifteen deltas"


@pytest.mark.parametrize("word", ["[[cut=0]]", "[[reset]]"])
def test_immediately_cut_stream_is_charged_its_input(direct: Direct, word: str) -> None:
    with pytest.raises(openai.APIConnectionError):
        list(direct.openai.chat.completions.create(**request_body("chat", f"{TOKENS} {word}")))
    (row,) = direct.billed()
    assert (row["in"], row["out"], row["cut"]) == (70, 0, True)


def test_an_error_inside_a_chat_stream_is_the_vendors(direct: Direct) -> None:
    with pytest.raises(openai.APIError, match="The server had an error"):
        list(direct.openai.chat.completions.create(**request_body("chat", f"{TOKENS} [[streamerror=3]]")))
    (row,) = direct.billed()
    assert (row["out"], row["cut"], row["end"]) == (6, True, "error")


def test_an_error_inside_a_message_stream_is_the_vendors(direct: Direct) -> None:
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        list(direct.anthropic.messages.create(**request_body("messages", f"{TOKENS} [[streamerror=3]]")))
    assert direct.billed()[0]["out"] == 6


def test_an_error_inside_a_response_stream_ends_it_as_failed(direct: Direct) -> None:
    events = list(direct.openai.responses.create(**request_body("responses", f"{TOKENS} [[streamerror=3]]")))
    assert [event.type for event in events][-2:] == ["error", "response.failed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert direct.billed()[0]["out"] == 6


def test_usage_may_be_missing_although_requested(direct: Direct) -> None:
    chunks = list(
        direct.openai.chat.completions.create(
            **request_body("chat", "[[nousage]]"), stream_options={"include_usage": True}
        )
    )
    assert {chunk.usage for chunk in chunks} == {None}
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_usage_can_come_with_the_finish(direct: Direct) -> None:
    *_, last = direct.openai.chat.completions.create(
        **request_body("chat", "[[lateusage]]"), stream_options={"include_usage": True}
    )
    assert last.choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens == direct.billed()[0]["out"]


def test_usage_can_be_reported_wrong(direct: Direct) -> None:
    found = direct.openai.chat.completions.create(**request_body("chat", f"{TOKENS} [[usage=wrong]]", stream=False))
    assert found.usage.completion_tokens == direct.billed()[0]["out"] + 10


def test_a_paced_stream_takes_its_time(direct: Direct) -> None:
    started = time.monotonic()
    list(direct.openai.chat.completions.create(**request_body("chat", "[[chunks=6]] [[pace=20]]")))
    assert time.monotonic() - started >= 0.1


def test_writes_can_end_inside_a_character(direct: Direct, reading: Callable[[str, str], Any]) -> None:
    with reading("chat", "[[say=%E2%82%AC%F0%9F%98%80]] [[chunks=1]] [[split=utf8]]") as client:
        parts = [client.some() for _ in range(4)]
        whole = b"".join(parts) + client.rest()
    assert any(part.endswith(b"\xe2") for part in parts)
    assert any(part.endswith(b"\xf0") for part in parts)
    assert "€😀" in whole.decode()
    assert direct.billed()[0]["end"] == "whole"


@pytest.mark.parametrize("wire", PATHS)
def test_requests_and_answers_are_kept_byte_for_byte(
    direct: Direct, running: RunningProvider, reading: Callable[[str, str], Any], wire: str
) -> None:
    with reading(wire, "[[say=%C3%A4]]") as client:
        read = client.rest()
    (request,), (answer,) = running.requests(last=1), running.answers(last=1)
    assert (request.method, request.path, request.body) == ("POST", PATHS[wire], client.sent)
    assert request.header("x-canary") == "it is me"
    assert (answer.status, answer.whole, answer.body) == (200, True, read)
    assert request.number == answer.number == direct.billed()[0]["request"]


def test_a_cut_answer_is_kept_as_far_as_it_came(running: RunningProvider, direct: Direct) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        list(direct.anthropic.messages.create(**request_body("messages", "[[cut=1]]")))
    (answer,) = running.answers(last=1)
    assert answer.body.count(b"text_delta") == 1
    assert not answer.whole


def test_no_more_than_the_last_requests_are_kept(running: RunningProvider, direct: Direct) -> None:
    for _ in range(260):
        direct.openai.models.with_raw_response.retrieve(GPT)
    kept = running.requests()
    assert len(kept) == 256
    assert kept[-1].number == kept[0].number + 255


def test_an_unknown_model_is_not_found(direct: Direct) -> None:
    with pytest.raises(openai.NotFoundError):
        direct.openai.models.retrieve(CLAUDE)
    with pytest.raises(anthropic.NotFoundError):
        direct.anthropic.models.retrieve(GPT)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_comes_before_the_first_byte_and_costs_nothing(direct: Direct, stream: bool) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        direct.openai.chat.completions.create(**request_body("chat", "[[status=429]] [[after=7]]", stream=stream))
    with pytest.raises(anthropic.InternalServerError):
        direct.anthropic.messages.create(**request_body("messages", "[[status=529]]", stream=stream))
    assert limited.value.response.headers["retry-after"] == "7"
    assert direct.billed() == []


def test_retry_after_a_refusal_succeeds(direct: Direct) -> None:
    prompt = "[[once=500]] [[delay=5]]"
    with pytest.raises(openai.InternalServerError):
        direct.openai.chat.completions.create(**request_body("chat", prompt))
    assert list(direct.openai.chat.completions.create(**request_body("chat", prompt)))
    assert len(direct.billed()) == 1
