"""A client gets the same bytes through the gateway as directly from the provider, except for the cost.

And the provider gets the same bytes as the client sent.
"""

import json
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, new_project
from tests.support.prompts import CHATS, EVERY, STREAMS_WITHOUT_COST
from tests.support.surfaces import (
    CHAT,
    CLAUDE,
    MESSAGES,
    RESPONSES,
    Comparison,
    chat,
    message,
    written,
)
from tests.support.surfaces import response as responses_call

JSON = "application/json"
ASK = {CHAT: chat, RESPONSES: responses_call, MESSAGES: message}


@pytest.fixture
def comparison(
    session: aiohttp.ClientSession, gateway: Gateway, upstream: RunningProvider, client: Client
) -> Comparison:
    return Comparison(session, gateway, upstream, client)


@pytest.mark.parametrize("name", EVERY)
async def test_response_is_the_providers_own(comparison: Comparison, name: str) -> None:
    path, body = EVERY[name]
    straight, through = await comparison.ask(path, written(body))
    assert (straight.status, straight.costs, straight.is_whole) == (200, 0, True)
    assert (through.own, through.costs) == (straight.own, 1)


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("chat-")])
async def test_a_stream_is_the_providers_own(comparison: Comparison, name: str) -> None:
    path, body = EVERY[name]
    straight, through = await comparison.ask(path, written(body | {"stream": True}))
    assert (straight.content_type, straight.costs) == ("text/event-stream", 0)
    assert (through.own, through.costs) == (straight.own, int(name not in STREAMS_WITHOUT_COST))


@pytest.mark.parametrize("options", [None, {"include_usage": False, "x": 1}])
@pytest.mark.parametrize("name", CHATS)
async def test_unrequested_usage_is_hidden(comparison: Comparison, name: str, options: dict[str, Any] | None) -> None:
    request_body = CHATS[name] | {"stream": True, "stream_options": options}
    straight, through = await comparison.ask(CHAT, written(request_body))
    assert (through.status, through.content_type, through.body) == (200, "text/event-stream", straight.body)
    assert b"data: [DONE]\n\n" in through.body


@pytest.mark.parametrize("name", CHATS)
async def test_requested_usage_is_shown(comparison: Comparison, name: str) -> None:
    request_body = CHATS[name] | {"stream": True, "stream_options": {"include_usage": True}}
    straight, through = await comparison.ask(CHAT, written(request_body))
    assert (through.own, through.costs) == (straight.own, int(name != "no-usage"))
    assert b'"usage":' in through.body


@pytest.mark.parametrize("path", ASK)
async def test_a_failure_inside_a_stream_is_the_providers_own(comparison: Comparison, path: str) -> None:
    request_body = ASK[path]("[[streamerror=7]]", stream=True)
    straight, through = await comparison.ask(path, written(request_body))
    assert through.own == straight.own
    assert (straight.is_whole, through.is_whole) == (True, True)
    assert b'"error"' in through.body


@pytest.mark.parametrize("path", ASK)
async def test_cut_stream_ends_with_an_error(comparison: Comparison, path: str) -> None:
    request_body = ASK[path]("[[pace=20]] [[cut=5]]", stream=True)
    straight, through = await comparison.ask(path, written(request_body))
    assert (straight.is_whole, through.status, through.is_whole) == (False, 200, True)
    sent = through.own[2]
    assert sent.startswith(straight.body + CUT[path])
    after = sent.removeprefix(straight.body + CUT[path])
    assert after.startswith(AFTER_THE_ERROR[path])
    assert after.count(b"\n\n") == bool(AFTER_THE_ERROR[path])


CUT = {
    CHAT: b'data: {"error":{"message":"connection error: the connection to openai broke","type":"api_error",'
    b'"param":null,"code":null}}'
    b"\n\n",
    RESPONSES: b'event: error\ndata: {"type":"error","sequence_number":9,"code":"server_error",'
    b'"message":"connection error: the connection to openai broke","param":null}\n\n',
    MESSAGES: b'event: error\ndata: {"type":"error","error":{"type":"api_error",'
    b'"message":"connection error: the connection to anthropic broke"},"request_id":"req_"}\n\n',
}
"""The gateway's error event for a cut stream: in the vendor's shape, with the next sequence number."""
AFTER_THE_ERROR = {CHAT: b"", RESPONSES: b"event: response.failed\n", MESSAGES: b""}
"""The beginning of the event that follows: clients of the Responses API wait for a response that has ended."""


@pytest.mark.parametrize("path", ASK)
async def test_non_stream_is_an_error_before_the_first_byte(comparison: Comparison, path: str) -> None:
    through = await comparison.through(path, written(ASK[path]("[[garbage]]", stream=True)))
    assert (through.status, through.content_type) == (502, "application/json")
    assert through.json()["error"]["type"] == "api_error"


@pytest.mark.parametrize("status", [400, 404, 413, 422])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ASK)
async def test_provider_refusal_keeps_its_message(comparison: Comparison, path: str, stream: bool, status: int) -> None:
    straight, through = await comparison.ask(path, written(ASK[path](f"[[status={status}]]", stream=stream)))
    assert (straight.status, through.status, through.content_type) == (status, status, "application/json")
    assert through.json()["error"]["message"] == straight.json()["error"]["message"]


ODD = (
    b'\r\n{ "x_tomorrow" : {"b" : [ 1.50, 1e2, null ], "a":"\\u00e4\\/\xc3\xa4"} ,\t"max_tokens":64,\n'
    b'  "model"  :"%b","stream" : %b , "messages": [ {"content": "say \\"hello\\"", "role":"user"}],"temperature":0.30,'
    b'"metadata" :{"user_id":"u"} }\n'
)
"""A request for both vendors with an order, spaces and members that no SDK would send."""

ODD_THOUGHTS = b"""{"thinking":{"budget_tokens":1024,"type":"enabled"},"max_tokens":2048, "system":[
  {"cache_control": {"type":"ephemeral" , "ttl":"1h"},"text":"Be brief.","type":"text"}],
  "messages":[{"role":"user","content":"hello"},{"role":"assistant","content":[
    {"type":"thinking","thinking":"hm\\u2028","signature":"c2lnbmF0dXJl=="},
    {"data":"ZGF0YQ==","type":"redacted_thinking"},
    {"type":"tool_use","id":"toolu_1","name":"now","input":{ "z":1.0, "a":2 }}]},
   {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"noon","is_error":false}]}],
  "tools":[{"name":"now","input_schema":{"type":"object","properties":{} } }], "model":"%b"}"""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, ODD % (b"gpt-4o-mini", b"false")),
        (CHAT, written(chat("x", stream=True, stream_options={"include_usage": True, "include_obfuscation": False}))),
        (RESPONSES, b'{ "input" :"hello","model":"gpt-4o-mini" , "stream":true,"x_tomorrow": [ ]}'),
        (RESPONSES, b'{ "input" :"hello","model":"gpt-4o-mini" , "store":false}'),
        (MESSAGES, ODD % (CLAUDE.encode(), b"true")),
        (MESSAGES, ODD % (CLAUDE.encode(), b"false")),
        (MESSAGES, ODD_THOUGHTS % CLAUDE.encode()),
    ],
)
async def test_unchanged_request_arrives_byte_for_byte(comparison: Comparison, path: str, body: bytes) -> None:
    assert (await comparison.arrived(path, body)).body == body


@pytest.mark.parametrize(
    ("path", "body", "arrived"),
    [
        (MESSAGES, ODD % (b"claude-3-haiku", b"true"), ODD % (CLAUDE.encode(), b"true")),
        (MESSAGES, ODD_THOUGHTS % b"anthropic/claude-3-haiku", ODD_THOUGHTS % CLAUDE.encode()),
        (CHAT, ODD % (b"openai/gpt-4o-mini", b"false"), ODD % (b"gpt-4o-mini", b"false")),
        (
            RESPONSES,
            b'{ "input" :"hello","model":"openai/gpt-4o-mini" , "stream":true}',
            b'{ "input" :"hello","model":"gpt-4o-mini" , "stream":true}',
        ),
        (
            CHAT,
            ODD % (b"gpt-4o-mini", b"true"),
            (ODD % (b"gpt-4o-mini", b"true")).replace(b'"u"} }', b'"u"},"stream_options":{"include_usage":true} }'),
        ),
        (
            CHAT,
            b'{"stream_options" : { "x": 1 , "include_usage": false } ,"stream":true,"model":"gpt-4o-mini", '
            b'"messages":[{"role":"user","content":"x"}]}',
            b'{"stream_options" : {"x":1,"include_usage":true} ,"stream":true,"model":"gpt-4o-mini", '
            b'"messages":[{"role":"user","content":"x"}]}',
        ),
    ],
)
async def test_passthrough_changes_only_model_and_usage_option(
    comparison: Comparison, path: str, body: bytes, arrived: bytes
) -> None:
    assert (await comparison.arrived(path, body)).body == arrived


@pytest.mark.parametrize(
    ("path", "body", "cap"),
    [
        (CHAT, b'{ "model":"gpt-4o" , "messages":[ {"role":"user","content":"hello"} ] }', b'"max_tokens"'),
        (RESPONSES, b'{ "model":"gpt-4o" , "input":"hello" }', b'"max_output_tokens"'),
    ],
)
async def test_lowered_cap_is_appended_to_the_body(comparison: Comparison, path: str, body: bytes, cap: bytes) -> None:
    _, issued, _ = await comparison.client.call("POST", "/projects/api-keys", {"name": "poor", "dailyBudget": 0.1})
    comparison.key = issued["data"]["apiKey"]
    arrived = (await comparison.arrived(path, body)).body
    start, _, added = arrived.rpartition(b",")
    assert start == body.removesuffix(b" }")
    assert added.partition(b":")[0] == cap
    assert 256 <= int(added.partition(b":")[2].removesuffix(b" }")) < 16_384


async def test_anthropics_headers_arrive_as_they_were_sent(comparison: Comparison) -> None:
    sent_headers = {"anthropic-version": "2099-01-01", "anthropic-beta": "one-2025-01-01,two-2026-01-01"}
    arrived = await comparison.arrived(MESSAGES, written(message("hello")), **sent_headers)
    assert {name: arrived.header(name) for name in sent_headers} == sent_headers


async def test_a_header_that_was_sent_in_two_lines_arrives_whole(
    comparison: Comparison, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    sent_headers = CIMultiDict([("anthropic-beta", "one-2025-01-01"), ("anthropic-beta", "two-2026-01-01")])
    sent_headers.extend({"x-api-key": str(comparison.key), "content-type": "application/json"})
    async with session.post(
        comparison.gateway_address + MESSAGES, data=written(message("hello")), headers=sent_headers
    ) as answer:
        assert answer.status == 200
    assert upstream.requests(last=1)[0].header("anthropic-beta") == "one-2025-01-01, two-2026-01-01"


async def test_gateway_headers_do_not_reach_the_provider(comparison: Comparison) -> None:
    sent_headers = {
        "x-gateway-metadata": '{"a":"b"}',
        "cookie": "c=d",
        "x-forwarded-for": "10.0.0.1",
        "openai-organization": "o",
    }
    arrived = await comparison.arrived(MESSAGES, written(message("hello")), **sent_headers)
    assert [name for name in sent_headers if arrived.header(name) is not None] == []
    assert str(comparison.key) not in json.dumps(arrived.headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 404, 413, 422])
@pytest.mark.parametrize("path", ASK)
async def test_a_refusal_is_the_providers_own(comparison: Comparison, path: str, status: int, stream: bool) -> None:
    request_body = written(ASK[path](f"[[status={status}]]", stream=stream))
    straight, through = await comparison.ask(path, request_body)
    assert (through.status, through.content_type) == (straight.status, straight.content_type) == (status, JSON)
    ids = {"request_id": through.headers["x-request-id"]} if path == MESSAGES else {}
    assert through.json() == straight.json() | ids
    assert through.json()["error"]["code"] == f"code_{status}"


async def test_repeated_provider_key_is_hidden(
    gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    project = await new_project(gateway, session, openaiKey="code_400")
    comparison = Comparison(session, gateway, upstream, project)
    refused = await comparison.through(CHAT, written(chat("[[status=400]]")))
    assert refused.json()["error"] == {
        "message": "refused with 400",
        "type": "invalid_request_error",
        "code": "…",
        "param": "messages",
    }


@pytest.mark.parametrize(
    ("query", "sent"),
    [("beta=true&x=%C3%A9", "?beta=true"), ("key=sk-secret&beta=true", "?beta=true"), ("api_key=sk-secret", "")],
)
async def test_of_a_messages_query_only_what_the_vendor_knows_is_passed_on(
    comparison: Comparison, query: str, sent: str
) -> None:
    """Some clients put their key there, which is the gateway's and none of the vendor's business."""
    arrived = await comparison.arrived(f"{MESSAGES}?{query}", written(message("with a query")))
    assert arrived.path == f"{MESSAGES}{sent}"


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_stream_without_a_final_event_is_complete(comparison: Comparison, path: str) -> None:
    usage = {"stream_options": {"include_usage": True}} if path == CHAT else {}
    request_body = written(ASK[path]("[[nolast]] [[tokens=90/40]]", stream=True, **usage))
    straight, through = await comparison.ask(path, request_body)
    assert (through.own, through.costs, through.is_whole) == (straight.own, 1, True)
    _, page, _ = await comparison.client.call("GET", "/requests")
    assert [request["status"] for request in page["data"]["requests"]] == ["completed"]
