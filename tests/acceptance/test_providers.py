"""Providers by configuration, of a project or of the installation, are called by name on every surface."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, UnprocessableEntityError

from tests.provider.running import RunningProvider
from tests.support.gateway import NEWS_S, Client, Gateway, new_project, operator_of
from tests.support.waiting import eventually_so

KEY = "sk-named-canary-0123456789wxyz"
MESSAGES: list[Any] = [{"role": "user", "content": "hello [[tokens=1000/500]]"}]


def named(upstream: RunningProvider, name: str = "mine", kind: str = "openai", **fields: Any) -> dict[str, Any]:
    addresses = {"openai": upstream.openai_base_url, "anthropic": upstream.anthropic_base_url}
    return {"name": name, "kind": kind, "baseUrl": addresses[kind], "apiKey": KEY} | fields


async def add(client: Client, provider: dict[str, Any], path: str = "/projects/providers") -> dict[str, Any]:
    status, answer, _ = await client.call("POST", path, provider)
    assert status == 201, answer
    shown: dict[str, Any] = answer["data"]
    return shown


@pytest.fixture
async def openai(client: Client, gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=client.key, base_url=f"{gateway.address}/v1", max_retries=0) as opened:
        yield opened


@pytest.fixture
async def anthropic(client: Client, gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(api_key=client.key, base_url=gateway.address, max_retries=0) as opened:
        yield opened


@pytest.fixture
async def redirecting() -> AsyncIterator[str]:
    """Run an endpoint that redirects every request to the cloud's metadata address."""

    async def redirect(_request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("http://169.254.169.254/latest")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
    await runner.cleanup()


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_a_projects_provider_is_called_on_every_surface(
    client: Client, openai: AsyncOpenAI, anthropic: AsyncAnthropic, upstream: RunningProvider, kind: str
) -> None:
    shown = await add(client, named(upstream, kind=kind))
    assert shown["apiKey"] == "…wxyz"
    before = upstream.calls
    model = "mine/some-model"
    status, answer, headers = await client.chat("hello", model=model)
    assert (status, answer["data"]["provider"], headers["x-gateway-provider"]) == (200, "mine", "mine")
    assert answer["data"]["cost"] is None
    assert "no known price" in headers["x-gateway-warning"]
    chat = await openai.chat.completions.create(model=model, messages=MESSAGES)
    assert chat.choices[0].message.content
    streamed = [
        chunk async for chunk in await openai.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    ]
    assert streamed[-1].choices[0].finish_reason == "stop"
    message = await anthropic.messages.create(model=model, messages=MESSAGES, max_tokens=99)
    assert message.stop_reason == "end_turn"
    async with anthropic.messages.stream(model=model, messages=MESSAGES, max_tokens=99) as stream:
        assert (await stream.get_final_message()).usage.output_tokens == 500
    received = upstream.requests(5)
    assert {json.loads(request.body)["model"] for request in received} == {"some-model"}
    assert {request.path for request in received} == {"/v1/chat/completions" if kind == "openai" else "/v1/messages"}
    assert upstream.calls == before + 5
    _, costs, _ = await client.call("GET", "/usage/costs?groupBy=provider")
    (row,) = costs["data"]["breakdown"]
    assert (row["provider"], row["requests"], row["cost"], row["unpricedRequests"]) == ("mine", 5, 0, 5)
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["unpricedRequests"] == 5
    _, by_team, _ = await client.call("GET", "/usage/costs?groupBy=metadata.team")
    assert [row["unpricedRequests"] for row in by_team["data"]["breakdown"]] == [5]


async def test_projects_provider_goes_before_the_installations(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    operator = operator_of(gateway, session)
    await add(operator, named(upstream, "shared", apiKey="sk-of-the-installation"), "/providers")
    assert (await client.chat("hello", model="shared/m"))[0] == 200
    assert upstream.requests(1)[0].header("authorization") == "Bearer sk-of-the-installation"
    await add(client, named(upstream, "shared", "anthropic"))
    assert (await client.chat("hello again", model="shared/m"))[0] == 200
    assert upstream.requests(1)[0].header("authorization") == f"Bearer {KEY}"
    _, listed, _ = await operator.call("GET", "/providers")
    assert [(one["name"], one["apiKey"]) for one in listed["data"]] == [("shared", "…tion")]
    status, _, _ = await operator.call("DELETE", "/providers/shared")
    assert status == 200
    other = await new_project(gateway, session)
    status, answer, _ = await other.chat("hello", model="shared/m")
    assert (status, answer["error"]["code"]) == (404, "UNKNOWN_MODEL")


async def test_provider_is_visible_to_its_project_only(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    await add(client, named(upstream))
    other = await new_project(gateway, session)
    status, answer, _ = await other.chat("hello", model="mine/m")
    assert (status, answer["error"]["code"]) == (404, "UNKNOWN_MODEL")
    _, listed, _ = await other.call("GET", "/projects/providers")
    assert listed["data"] == []


async def test_only_admins_and_the_operator_configure_providers(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "member"})
    member = Client(session, gateway.address, issued["data"]["apiKey"])
    for method, path in (("POST", ""), ("GET", ""), ("PATCH", "/mine"), ("DELETE", "/mine")):
        status, answer, _ = await member.call(method, f"/projects/providers{path}", named(upstream))
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN"), (method, answer)
        status, answer, _ = await client.call(method, f"/providers{path}", named(upstream))
        assert (status, answer["error"]["code"]) == (401, "UNAUTHORIZED"), (method, answer)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"baseUrl": "http://api.example.com/v1"}, "baseUrl"),
        ({"baseUrl": "https://10.0.0.7/v1"}, "baseUrl"),
        ({"baseUrl": "https://169.254.169.254/v1"}, "baseUrl"),
        ({"baseUrl": "https://2852039166/v1"}, "baseUrl"),
        ({"baseUrl": "https://a:b@api.example.com/v1"}, "baseUrl"),
        ({"baseUrl": "https://api.example.com/v1?key=secret"}, "baseUrl"),
        ({"baseUrl": "ftp://api.example.com"}, "baseUrl"),
        ({"name": "openai"}, "name"),
        ({"name": "Upper/Case"}, "name"),
        ({"kind": "echo"}, "kind"),
        ({"models": []}, "models"),
        ({"apiKey": ""}, "apiKey"),
        ({"region": "eu"}, "region"),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    client: Client, upstream: RunningProvider, fields: dict[str, Any], field: str
) -> None:
    status, answer, _ = await client.call("POST", "/projects/providers", named(upstream) | fields)
    assert (status, answer["error"]["details"]["field"]) == (400, field), answer


async def test_a_redirection_is_not_followed(client: Client, upstream: RunningProvider, redirecting: str) -> None:
    await add(client, named(upstream, baseUrl=redirecting))
    status, answer, _ = await client.chat("hello", model="mine/m")
    assert (status, answer["error"]["code"]) == (502, "PROVIDER_UNAVAILABLE"), answer


async def test_a_providers_change_applies_within_a_second_and_keeps_its_key(
    client: Client, upstream: RunningProvider
) -> None:
    await add(client, named(upstream, models=["a"]))
    status, answer, _ = await client.call("PATCH", "/projects/providers/mine", {"baseUrl": "https://evil.example.com"})
    assert (status, answer["error"]["details"]["field"]) == (400, "apiKey")
    assert (await client.chat("hello", model="mine/b"))[0] == 404
    status, answer, _ = await client.call(
        "PATCH", "/projects/providers/mine", {"models": ["b"], "apiKey": "sk-another-one"}
    )
    assert (status, answer["data"]["models"], answer["data"]["apiKey"]) == (200, ["b"], "…-one")

    async def is_served() -> bool:
        return {(await client.chat(f"hello {number}", model="b"))[0] for number in range(4)} == {200}

    await eventually_so(is_served, within_s=NEWS_S)
    assert {request.header("authorization") for request in upstream.requests(4)} == {"Bearer sk-another-one"}
    assert (await client.call("DELETE", "/projects/providers/mine"))[0] == 200

    async def is_gone() -> bool:
        answers = [await client.chat(f"bye {number}", model="mine/b") for number in range(4)]
        return {status for status, _, _ in answers} == {404}

    await eventually_so(is_gone, within_s=NEWS_S)
    assert (await client.call("DELETE", "/projects/providers/mine"))[0] == 404


async def test_a_budget_needs_a_price_which_the_operator_sets(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    await add(client, named(upstream, "priced", models=["m"]))
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "limited", "dailyBudget": 1})
    limited = Client(session, gateway.address, issued["data"]["apiKey"])
    status, answer, _ = await limited.chat("[[tokens=1000/500]]", model="priced/m", maxTokens=500)
    assert (status, answer["error"]["code"]) == (402, "BUDGET_EXCEEDED")
    _, models, _ = await limited.call("GET", "/models")
    row = next(row for row in models["data"] if row["name"] == "priced/m")
    assert (row["provider"], row["inputPricePer1K"]) == ("priced", None)
    arguments = ("price", "set", "priced/m", "--input", "0.001", "--output", "0.002")
    made = await asyncio.to_thread(gateway.run, *arguments)
    assert made.returncode == 0, made.stderr

    async def costs_what_was_set() -> bool:
        status, answer, _ = await limited.chat("[[tokens=1000/500]]", model="priced/m", maxTokens=500)
        return status == 200 and bool(answer["data"]["cost"] == Decimal("0.002"))

    await eventually_so(costs_what_was_set, within_s=NEWS_S)
    _, budget, _ = await limited.call("GET", "/usage/budget")
    assert budget["data"]["daily"]["spent"] == Decimal("0.002")


async def test_providers_are_administered_from_the_shell(client: Client, gateway: Gateway) -> None:
    missing = await asyncio.to_thread(
        gateway.run,
        "provider",
        "add",
        "x",
        "--kind",
        "openai",
        "--base-url",
        "https://a.example.com",
        "--key-env",
        "NO",
    )
    assert (missing.returncode, missing.stderr.strip()) == (2, "gateway: the environment variable NO is not set")
    arguments = ("provider", "add", "shell", "--kind", "openai", "--base-url", "https://a.example.com/v1", "--key-env")
    added = await asyncio.to_thread(gateway.run, *arguments, "PATH", "--model", "m")
    assert "shell/m" in added.stdout, added.stderr
    listed = await asyncio.to_thread(gateway.run, "provider", "list")
    assert "https://a.example.com/v1" in listed.stdout
    _, models, _ = await client.call("GET", "/models")
    assert "shell/m" in [model["name"] for model in models["data"]]
    removed = await asyncio.to_thread(gateway.run, "provider", "remove", "shell")
    assert removed.returncode == 0
    again = await asyncio.to_thread(gateway.run, "provider", "remove", "shell")
    assert again.returncode == 2


async def test_no_key_of_a_provider_shows(client: Client, gateway: Gateway, upstream: RunningProvider) -> None:
    await add(client, named(upstream))
    await client.chat("[[status=401]]", model="mine/m")
    _, events, _ = await client.call("GET", "/audit/events")
    _, listed, _ = await client.call("GET", "/projects/providers")
    assert "ProviderConfigured" in str(events)
    for shown in (str(events), str(listed), gateway.errors(), gateway.run("replay").stdout):
        assert KEY not in shown


async def test_one_of_many_concurrent_adds_wins(client: Client, upstream: RunningProvider) -> None:
    answers = await asyncio.gather(
        *(client.call("POST", "/projects/providers", named(upstream, apiKey=f"{KEY}{n}")) for n in range(8))
    )
    statuses = [status for status, _, _ in answers]
    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 400, 503}
    (added,) = [answer["data"]["apiKey"] for status, answer, _ in answers if status == 201]
    _, listed, _ = await client.call("GET", "/projects/providers")
    assert [one["apiKey"] for one in listed["data"]] == [added]


async def test_a_provider_without_the_responses_api_serves_it_by_chat(
    client: Client, openai: AsyncOpenAI, upstream: RunningProvider
) -> None:
    base_url = upstream.openai_base_url.replace("/v1", "/chat-only/v1")
    await add(client, named(upstream, baseUrl=base_url))
    for word in ("one", "two"):
        found = await openai.responses.create(model="mine/some-model", input=f"[[say={word}]]")
        assert (found.object, found.output_text) == ("response", word)
    events = [
        event async for event in await openai.responses.create(model="mine/some-model", input="three", stream=True)
    ]
    assert events[-1].type == "response.completed"
    paths = [request.path for request in upstream.requests(3)]
    assert paths == ["/chat-only/v1/chat/completions"] * 3
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["failedRequests"] == 1


async def test_a_retry_gets_the_same_bytes_when_its_provider_is_asked_another_way_by_now(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    async def ask(text: str, **headers: str) -> bytes:
        sent = {"authorization": f"Bearer {client.key}"} | headers
        body = {"model": "mine/some-model", "input": text, "metadata": {"asked": text}}
        async with session.post(f"{gateway.address}/v1/responses", json=body, headers=sent) as answer:
            content = await answer.read()
            assert answer.status == 200, content
            return content

    async def move(base_url: str) -> None:
        await client.call("DELETE", "/projects/providers/mine")
        await add(client, named(upstream, baseUrl=base_url))
        await asyncio.sleep(NEWS_S)

    both, chat_alone = upstream.openai_base_url, upstream.openai_base_url.replace("/v1", "/chat-only/v1")
    await move(both)
    passed_on = await ask("passed on", **{"idempotency-key": "1"})
    await move(chat_alone)
    translated = await ask("translated", **{"idempotency-key": "2"})
    calls = upstream.calls
    assert await ask("passed on", **{"idempotency-key": "1"}) == passed_on
    await move(both)
    assert await ask("translated", **{"idempotency-key": "2"}) == translated
    assert upstream.calls == calls


async def test_a_refusal_of_the_call_that_the_provider_has_is_shown_as_itself(
    client: Client, openai: AsyncOpenAI, upstream: RunningProvider
) -> None:
    base_url = upstream.openai_base_url.replace("/v1", "/chat-only/v1")
    await add(client, named(upstream, baseUrl=base_url))
    with pytest.raises(UnprocessableEntityError) as refused:
        await openai.responses.create(model="mine/odd-model", input="[[status=422]] [[message=too%20odd]]")
    assert "too odd" in refused.value.message
    assert (await openai.responses.create(model="mine/odd-model", input="[[say=yes]]")).output_text == "yes"
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["failedRequests"] == 2


async def test_a_seller_with_chat_completions_alone_gets_what_its_client_sends(
    client: Client, openai: AsyncOpenAI, upstream: RunningProvider
) -> None:
    base_url = upstream.openai_base_url.replace("/v1", "/chat-only/v1")
    await add(client, named(upstream, baseUrl=base_url))
    for word in ("one", "two"):
        found = await openai.chat.completions.create(
            model="mine/gpt-5-pro", messages=[{"role": "user", "content": f"[[say={word}]]"}], seed=7
        )
        assert found.choices[0].message.content == word
    sent = [(request.path, json.loads(request.body).get("seed")) for request in upstream.requests(2)]
    assert sent == [("/chat-only/v1/chat/completions", 7)] * 2
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["failedRequests"] == 1


async def test_a_seller_with_both_calls_is_asked_for_a_response(
    client: Client, openai: AsyncOpenAI, anthropic: AsyncAnthropic, upstream: RunningProvider
) -> None:
    await add(client, named(upstream))
    found = await openai.chat.completions.create(
        model="mine/gpt-5-pro", messages=[{"role": "user", "content": "[[say=one]]"}]
    )
    message = await anthropic.messages.create(
        model="mine/gpt-5-pro", max_tokens=50, messages=[{"role": "user", "content": "[[say=two]]"}]
    )
    assert (found.choices[0].message.content, message.content[0].type) == ("one", "text")
    assert [request.path for request in upstream.requests(2)] == ["/v1/responses"] * 2


async def test_a_count_that_a_provider_does_not_make_is_estimated_and_marked(
    client: Client, openai: AsyncOpenAI, anthropic: AsyncAnthropic, upstream: RunningProvider
) -> None:
    base_url = upstream.openai_base_url.replace("/v1", "/chat-only/v1")
    await add(client, named(upstream, baseUrl=base_url))
    model, text = "mine/some-model", "four bytes a token, " * 100
    counted = await openai.responses.input_tokens.with_raw_response.count(model=model, input=text)
    message = await anthropic.messages.with_raw_response.count_tokens(
        model=model, messages=[{"role": "user", "content": text}]
    )
    for raw in (counted, message):
        found = json.loads(raw.http_response.content)
        assert raw.headers["x-gateway-estimated"] == "true"
        assert found["estimated"] is True
        assert 500 <= found["input_tokens"] <= 600
