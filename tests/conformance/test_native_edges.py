"""Responses to extreme input: cases that fuzzing found, and cases that it cannot find."""

import json
from typing import Any

import aiohttp
import pytest

from tests.support.gateway import Client, Gateway
from tests.support.stream_assembly import NATIVE
from tests.support.surfaces import CHAT, MESSAGES, RESPONSES, chat, message, response, written

NUL = "\x00"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/usage/stats?keyId=%00", "keyId"),
        ("/usage/costs?groupBy=metadata.a%00", "groupBy"),
        ("/requests?model=a%00", "model"),
        ("/requests?before=%00", "before"),
        ("/audit/events?stream=%00", "stream"),
        ("/audit/events?type=%00", "type"),
        ("/requests?since=0.5", "since"),
        ("/requests?until=1700000000", "until"),
        ("/requests?since=2026-01-01T00:00:00", "since"),
        ("/requests?since=9999-12-31T23:59:59-23:59", "since"),
        ("/requests?until=0001-01-01T00:00:00%2B23:59", "until"),
    ],
)
async def test_unanswerable_query_is_refused_by_name(client: Client, path: str, field: str) -> None:
    status, answer, _ = await client.call("GET", path)
    assert (status, answer["error"]["code"]) == (400, "VALIDATION_ERROR"), answer
    assert answer["error"]["details"]["field"] == field


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/requests/%00"),
        ("GET", "/projects/api-keys/a%00"),
        ("PATCH", "/projects/api-keys/%00"),
        ("DELETE", "/projects/api-keys/%00"),
    ],
)
async def test_nothing_has_an_id_that_no_text_can_be(client: Client, method: str, path: str) -> None:
    status, answer, _ = await client.call(method, path, {})
    assert (status, answer["error"]["code"]) == (404, "NOT_FOUND"), answer


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-23:59", "2000-01-01T00:00:00Z", "2099-01-01T00:00:00"])
async def test_a_key_cannot_expire_outside_of_time(client: Client, moment: str) -> None:
    status, answer, _ = await client.call("POST", "/projects/api-keys", {"name": "x", "expiresAt": moment})
    assert (status, answer["error"]["details"]["field"]) == (400, "expiresAt"), answer


@pytest.mark.parametrize("model", ["echo-\x00", f"echo-{'x' * 300}", "openai/\x00"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"), [(NATIVE, chat("x")), (CHAT, chat("x")), (RESPONSES, response("x")), (MESSAGES, message("x"))]
)
async def test_a_model_whose_name_no_text_can_be_is_refused(
    gateway: Gateway,
    client: Client,
    session: aiohttp.ClientSession,
    path: str,
    body: dict[str, Any],
    stream: bool,
    model: str,
) -> None:
    asked = written(body | {"model": model, "stream": stream})
    headers = {"authorization": f"Bearer {client.key}"}
    async with session.post(gateway.address + path, data=asked, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (400, "application/json")
        assert "model" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    "wanted",
    [{"type": "json_schema"}, {"type": "text", "jsonSchema": {"name": "x", "schema": {}}}],
    ids=["a schema that is missing", "a schema beside text"],
)
async def test_echo_ignores_the_format_of_the_response(client: Client, wanted: dict[str, Any]) -> None:
    body = chat("hello", model="echo") | {"responseFormat": wanted}
    status, answer, _ = await client.call("POST", "/completions/chat", body)
    assert (status, answer["data"]["choices"][0]["message"]["content"]) == (200, "echo: hello"), answer


@pytest.mark.parametrize("ttl", ["null", "59", "3600.5", ""])
async def test_a_ttl_that_is_none_is_refused(client: Client, ttl: str) -> None:
    body = chat("hello", model="echo")
    status, answer, _ = await client.call("POST", "/completions/chat", body, **{"x-gateway-cache-ttl": ttl})
    assert (status, answer["error"]["details"]["field"]) == (400, "x-gateway-cache-ttl"), answer


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v1/projects/api-keys/key_1", {"GET", "PATCH", "DELETE", "OPTIONS"}),
        ("/api/v1/projects/me", {"GET", "PATCH", "OPTIONS"}),
        ("/api/v1/completions/chat", {"POST", "OPTIONS"}),
        (CHAT, {"POST", "OPTIONS"}),
    ],
)
@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("TRACE", 405), ("PUT", 405)])
async def test_wrong_method_error_lists_the_allowed_ones(
    gateway: Gateway, session: aiohttp.ClientSession, method: str, status: int, path: str, methods: set[str]
) -> None:
    async with session.request(method, gateway.address + path) as answer:
        assert answer.status == status
        assert set(answer.headers["allow"].split(", ")) == methods


async def test_the_description_has_every_kind_of_answer(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{gateway.address}/schema/openapi.json") as answer:
        paths = json.loads(await answer.read())["paths"]
    answers = paths["/api/v1/completions/chat"]["post"]["responses"]
    assert set(answers) >= {"200", "400", "401", "402", "403", "404", "413", "429", "4XX", "500", "502", "503", "504"}
    assert set(answers["200"]["content"]) == {"application/json", "text/event-stream"}
    assert set(answers["200"]["headers"]) >= {"x-request-id", "x-gateway-cache", "x-gateway-cost-usd"}
    assert paths["/api/v1/projects"]["post"]["security"] == [{"masterKey": []}, {}]
