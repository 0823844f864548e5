"""An answer that came is given, whatever its provider left out: every SDK reads it, and none pays for it again."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.provider.running import RunningProvider
from tests.support.sdk_clients import GPT, collected, resolved, user

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
CALL = {"type": "function", "function": {"name": "now", "arguments": None}}
BARE = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]}
EVENTS = (
    'data:{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m",'
    '"choices":[{"index":0,"delta":{"role":"assistant","content":"hello"}}]}\r\n\r\n: ping\r\n\r\n'
    'data:{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m",'
    '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
)
BODIES = {
    "no usage": json.dumps(BARE),
    "null usage": json.dumps(BARE | {"usage": None}),
    "partial usage": json.dumps(BARE | {"usage": {"prompt_tokens": 3, "completion_tokens": None}}),
    "null id and model": json.dumps(BARE | {"id": None, "model": None}),
    "a mark before it": "\ufeff" + json.dumps(BARE),
    "parts": json.dumps(BARE | {"choices": [CHOICE | {"message": {"content": [{"type": "text", "text": "hello"}]}}]}),
    "events": EVENTS,
    "events behind a mark": "\ufeff" + EVENTS + "data: [DONE]\n\n",
}
PASSED_ON = ["no usage", "null usage", "a mark before it", "events", "events behind a mark"]
"""Without members that a validating SDK refuses: what is passed through stays as it came."""
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}
RESPONSE = {"id": "r1", "object": "response", "model": "m", "status": "completed", "output": [MESSAGE]}
RESPONSES = {
    "no usage": json.dumps(RESPONSE),
    "partial usage": json.dumps(RESPONSE | {"usage": {"input_tokens": None, "output_tokens": 3}}),
    "null id and model": json.dumps(RESPONSE | {"id": None, "model": None}),
    "a mark before it": "\ufeff" + json.dumps(RESPONSE),
    "an item of tomorrow": json.dumps(RESPONSE | {"output": [{"type": "dream", "id": "d1", "text": 7}, MESSAGE]}),
    "its end alone": f"data: {json.dumps({'type': 'response.completed', 'response': RESPONSE})}\n\n",
    "its end without the output": (
        'data: {"type":"response.output_text.delta","output_index":0,"delta":"hello"}\n\n'
        f"data: {json.dumps({'type': 'response.completed', 'response': RESPONSE | {'output': []}})}\n\n"
    ),
}
TOOL = {"name": "now", "input_schema": {"type": "object"}}


def exactly(body: str) -> list[Any]:
    return user(f"[[exactly={quote(body, safe='')}]]")


@pytest.mark.parametrize("form", BODIES)
async def test_an_answer_in_any_form_reaches_anthropics_sdk(
    anthropic: Any, upstream: RunningProvider, form: str
) -> None:
    calls = upstream.calls
    asked: Any = {"model": GPT, "max_tokens": 50, "messages": exactly(BODIES[form])}
    whole = await resolved(anthropic.messages.create(**asked))
    events = await collected(anthropic.messages.create(**asked, stream=True))
    texts = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert (whole.content[0].text, "".join(texts), whole.stop_reason) == ("hello", "hello", "end_turn")
    assert whole.usage.input_tokens > 0
    assert upstream.calls == calls + 2


@pytest.mark.parametrize("form", RESPONSES)
async def test_a_response_in_any_form_reaches_clients_of_chat(
    openai: Any, anthropic: Any, upstream: RunningProvider, form: str
) -> None:
    calls = upstream.calls
    asked: Any = {"model": "gpt-5-pro", "messages": exactly(RESPONSES[form])}
    whole = await resolved(openai.chat.completions.create(**asked))
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("hello", "stop")
    assert whole.usage.total_tokens > 0
    events = await collected(anthropic.messages.create(**asked, max_tokens=50, stream=True))
    texts = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert "".join(texts) == "hello"
    assert upstream.calls == calls + 2


@pytest.mark.parametrize("form", PASSED_ON)
async def test_an_answer_in_any_form_reaches_openais_sdk(openai: Any, upstream: RunningProvider, form: str) -> None:
    calls = upstream.calls
    asked: Any = {"model": GPT, "messages": exactly(BODIES[form])}
    whole = await resolved(openai.chat.completions.create(**asked))
    chunks = await collected(openai.chat.completions.create(**asked, stream=True))
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert (whole.choices[0].message.content, "".join(texts)) == ("hello", "hello")
    assert upstream.calls == calls + 2


async def test_a_call_without_id_and_arguments_reaches_anthropics_sdk(anthropic: Any) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [CALL, CALL]}, "finish_reason": "stop"}
    body = exactly(json.dumps(BARE | {"choices": [choice]}))
    asked: Any = {"model": GPT, "max_tokens": 50, "messages": body, "tools": [TOOL]}
    whole = await resolved(anthropic.messages.create(**asked))
    assert [(block.type, block.name, block.input) for block in whole.content] == [("tool_use", "now", {})] * 2
    assert len({block.id for block in whole.content}) == 2
    assert whole.stop_reason == "tool_use"
    events = await collected(anthropic.messages.create(**asked, stream=True))
    begun = [event.content_block.id for event in events if event.type == "content_block_start"]
    assert len(set(begun)) == 2


@pytest.mark.parametrize(("code", "status"), [(429, 429), (400, 400)])
async def test_an_error_with_status_200_is_an_error(
    session: Any, gateway: Any, client: Any, code: int, status: int
) -> None:
    body = {"model": GPT, "messages": exactly(json.dumps({"error": {"code": code, "message": "not now"}}))}
    headers = {"Authorization": f"Bearer {client.key}"}
    async with session.post(f"{gateway.address}/v1/chat/completions", json=body, headers=headers) as response:
        assert (response.status, "not now" in await response.text()) == (status, True)
