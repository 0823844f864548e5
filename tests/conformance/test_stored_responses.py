"""The calls about responses: passed on for what the project has made, and for nothing else."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai as openai_sdk
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Gateway
from tests.support.sdk_clients import CLAUDE, ECHO, GPT, UPSTREAM_CLAUDE, Project, collected, resolved, user


@pytest.fixture(scope="module")
def stranger(gateway: Gateway) -> Iterator[str]:
    """Return the key of another project."""
    other = Project(gateway)
    yield other.key
    other.close()


async def test_a_response_of_the_project_is_read_cancelled_and_deleted(openai: Any, upstream: RunningProvider) -> None:
    made = await resolved(openai.responses.create(model=GPT, input="keep me"))
    found = await resolved(openai.responses.retrieve(made.id, include=["message.output_text.logprobs"]))
    assert (found.id, found.status, found.usage.total_tokens) == (made.id, "completed", 15)
    request = upstream.requests(last=1)[0]
    assert (request.method, request.path) == (
        "GET",
        f"/v1/responses/{made.id}?include%5B%5D=message.output_text.logprobs",
    )
    items = await resolved(openai.responses.input_items.list(made.id, limit=5))
    assert [item.id for item in items.data] == ["msg_in"]
    assert upstream.requests(last=1)[0].path == f"/v1/responses/{made.id}/input_items?limit=5"
    assert (await resolved(openai.responses.cancel(made.id))).status == "cancelled"
    await resolved(openai.responses.delete(made.id))
    request = upstream.requests(last=1)[0]
    assert (request.method, request.path, request.body) == ("DELETE", f"/v1/responses/{made.id}", b"")


async def test_reading_a_response_costs_nothing(openai: Any) -> None:
    made = await resolved(openai.responses.create(model=GPT, input="free to read"))
    raw = await resolved(openai.responses.with_raw_response.retrieve(made.id))
    assert float(raw.headers["x-gateway-cost-usd"]) == 0
    assert "cost" not in json.loads(raw.content)["usage"]


@pytest.mark.parametrize("call", ["retrieve", "delete", "cancel"])
async def test_a_response_that_the_project_did_not_make_is_not_found(
    openai: Any, upstream: RunningProvider, stranger: str, call: str
) -> None:
    made = await resolved(openai.responses.create(model=GPT, input="mine"))
    seen = upstream.requests(last=1)[0].number
    for client, response_id in ((openai.with_options(api_key=stranger), made.id), (openai, "resp_of_nobody")):
        with pytest.raises(openai_sdk.NotFoundError) as missing:
            await resolved(getattr(client.responses, call)(response_id))
        assert missing.value.type == "invalid_request_error"
    assert upstream.requests(last=1)[0].number == seen


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_items_of_an_answer_may_be_named_in_the_next_turn(
    openai: Any, upstream: RunningProvider, stranger: str, streamed: bool
) -> None:
    request: Any = {"model": GPT, "input": user(f"item {type(openai).__name__} {streamed}")}
    if streamed:
        made = (await collected(openai.responses.create(**request, stream=True)))[-1].response
    else:
        made = await resolved(openai.responses.create(**request))
    named: Any = [{"type": "item_reference", "id": made.output[0].id}, *user("and?")]
    await resolved(openai.responses.create(model=GPT, input=named))
    assert json.loads(upstream.requests(last=1)[0].body)["input"] == named
    with pytest.raises(openai_sdk.NotFoundError, match="did not come with an answer"):
        await resolved(openai.with_options(api_key=stranger).responses.create(model=GPT, input=named))


async def test_compacting_is_charged(openai: Any) -> None:
    found = await resolved(openai.responses.compact(model=GPT, input=user("long [[tokens=1000/50]]")))
    assert [item.type for item in found.output] == ["compaction"]
    assert found.usage.cost == pytest.approx(1000 * 15e-8 + 50 * 6e-7)


async def test_tokens_of_a_response_are_counted_by_its_provider(openai: Any, upstream: RunningProvider) -> None:
    counted = await resolved(openai.responses.input_tokens.count(model=GPT, input="[[tokens=123/1]]"))
    assert counted.input_tokens == 123
    counted = await resolved(
        openai.responses.input_tokens.count(model=CLAUDE, instructions="be kind", input="[[tokens=321/1]]")
    )
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 321)
    request = upstream.requests(last=1)[0]
    assert request.path == "/v1/messages/count_tokens"
    body = json.loads(request.body)
    assert (body.keys(), body["model"]) == ({"model", "system", "messages"}, UPSTREAM_CLAUDE)


async def test_tokens_of_a_message_are_counted_by_any_provider(anthropic: Any, upstream: RunningProvider) -> None:
    tools: Any = [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]
    counted = await resolved(
        anthropic.messages.count_tokens(model=GPT, system="be kind", tools=tools, messages=user("[[tokens=123/1]]"))
    )
    assert counted.input_tokens == 123
    request = upstream.requests(last=1)[0]
    assert request.path == "/v1/responses/input_tokens"
    assert [item["role"] for item in json.loads(request.body)["input"]] == ["system", "user"]
    assert (await resolved(anthropic.messages.count_tokens(model=ECHO, messages=user("three small words")))) is not None


async def test_a_websocket_is_refused_so_that_its_client_falls_back_at_once(gateway: Gateway, key: str) -> None:
    address = urlsplit(gateway.address)
    head = (
        f"GET /v1/responses HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOpenAI-Beta: responses_websockets=2026-02-06\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=10) as opened:
        opened.sendall(head.encode())
        answer = b""
        while part := opened.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b'"error"' in answer


async def test_a_key_that_may_ask_a_route_reads_the_responses_that_came_through_it(
    openai: Any, gateway: Gateway
) -> None:
    project = Project(gateway)
    project.set_route("thrifty", GPT)
    limited = openai.with_options(api_key=project.issue(models=["thrifty"])["apiKey"])
    other = openai.with_options(api_key=project.issue(models=[CLAUDE])["apiKey"])
    project.close()
    made = await resolved(limited.responses.create(model="thrifty", input="mine by a route"))
    assert (await resolved(limited.responses.retrieve(made.id))).id == made.id
    await resolved(limited.responses.delete(made.id))
    with pytest.raises(openai_sdk.PermissionDeniedError):
        await resolved(other.responses.retrieve(made.id))
    with pytest.raises(openai_sdk.PermissionDeniedError):
        await resolved(limited.responses.create(model=GPT, input="by its own name"))
