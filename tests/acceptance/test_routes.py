"""Routes: names that requests give as their model, of a project or of the installation."""

import json
from typing import Any

import aiohttp
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from domain.routes import MAX_TARGETS
from tests.provider.running import RunningProvider
from tests.support.gateway import NEWS_S, Client, Gateway, new_project, operator_of
from tests.support.waiting import eventually_so

GROUPS = [["gpt-4o-mini"], [{"model": "claude-3-haiku", "weight": 3, "timeoutS": 20.5}]]


async def add(client: Client, name: str, **fields: Any) -> dict[str, Any]:
    status, answer, _ = await client.call("POST", "/routes", {"name": name, **fields})
    assert status == 201, answer
    shown: dict[str, Any] = answer["data"]
    return shown


async def test_a_route_is_shown_as_it_was_set_and_changes_field_by_field(client: Client) -> None:
    shown = await add(client, "fast", groups=GROUPS, attempts=3)
    assert shown["scope"] == "project"
    unset = dict.fromkeys(("timeoutS", "firstByteTimeoutS", "idleTimeoutS", "credential"))
    assert shown["groups"] == [
        [unset | {"model": "gpt-4o-mini", "weight": 1}],
        [unset | {"model": "claude-3-haiku", "weight": 3, "timeoutS": 20.5}],
    ]
    assert shown["failOverOn"] == ["connection", "timeout", "rate_limit", "server_error"]
    status, answer, _ = await client.call("PATCH", "/routes/fast", {"failOverOn": ["timeout", "timeout"]})
    assert (status, answer["data"]["failOverOn"], answer["data"]["attempts"]) == (200, ["timeout"], 3)
    assert answer["data"]["groups"] == shown["groups"]
    _, answer, _ = await client.call("PATCH", "/routes/fast", {"targets": ["echo", "gpt-4o"]})
    assert [[target["model"] for target in group] for group in answer["data"]["groups"]] == [["echo", "gpt-4o"]]
    _, one, _ = await client.call("GET", "/routes/fast")
    _, listed, _ = await client.call("GET", "/routes")
    assert listed["data"] == [one["data"]] == [answer["data"]]
    assert (await client.call("DELETE", "/routes/fast"))[0] == 200
    assert (await client.call("GET", "/routes/fast"))[0] == 404
    _, events, _ = await client.call("GET", "/audit/events?limit=1000")
    types = [event["type"] for event in events["data"]["events"] if event["stream"].startswith("route-")]
    assert types == ["RouteSet", "RouteSet", "RouteSet", "RouteRemoved"]


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"name": "fast", "targets": ["no-such-model"]}, "targets[0].model", "is unknown"),
        ({"name": "fast", "targets": ["gpt-4o", "fast"]}, "targets[1].model", "is a route"),
        ({"name": "gpt-4o", "groups": [["gpt-4o"]]}, "groups[0][0].model", "'openai/gpt-4o'"),
        ({"name": "fast"}, "groups", "either"),
        ({"name": "fast", "targets": ["echo"], "groups": [["echo"]]}, "groups", "either"),
        ({"name": "fast", "groups": [["echo"], []]}, "groups[1]", "length"),
        ({"name": "fast", "groups": [["echo"]] * 9}, "groups", "8 groups"),
        ({"name": "fast", "targets": ["echo"] * (MAX_TARGETS + 1)}, "targets", "16 targets"),
        ({"name": "a/b", "targets": ["echo"]}, "name", "matching"),
        ({"name": "fast", "targets": [{"model": "echo", "weight": -1}]}, "targets[0].weight", ">= 0"),
        ({"name": "fast", "targets": ["echo"], "failOverOn": ["hail"]}, "failOverOn[0]", "Invalid enum"),
        ({"name": "fast", "targets": ["echo"], "attempts": 9}, "attempts", "<= 5"),
    ],
)
async def test_what_is_no_route_is_refused_by_the_name_of_the_field(
    client: Client, fields: dict[str, Any], field: str, said: str
) -> None:
    status, answer, _ = await client.call("POST", "/routes", fields)
    assert (status, answer["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert answer["error"]["details"] == {"field": field}
    assert said in answer["error"]["message"]


async def test_a_target_is_no_other_route(client: Client) -> None:
    await add(client, "inner", targets=["echo"])
    status, answer, _ = await client.call("POST", "/routes", {"name": "outer", "targets": ["inner"]})
    assert (status, answer["error"]["details"]) == (400, {"field": "targets[0].model"})


async def test_admins_set_their_projects_routes_and_the_operator_the_installations(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    operator, other = operator_of(gateway, session), await new_project(gateway, session)
    shared = await add(operator, "everyones", targets=["echo"])
    assert shared["scope"] == "installation"
    for project in (client, other):
        _, listed, _ = await project.call("GET", "/routes")
        assert [(one["name"], one["scope"]) for one in listed["data"]] == [("everyones", "installation")]
        assert (await project.call("DELETE", "/routes/everyones"))[0] == 404
    await add(client, "everyones", targets=["gpt-4o-mini"])
    assert [(await project.call("GET", "/routes/everyones"))[1]["data"]["scope"] for project in (client, other)] == [
        "project",
        "installation",
    ]
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "a member"})
    member = Client(session, gateway.address, issued["data"]["apiKey"])
    assert (await member.call("GET", "/routes"))[0] == 200
    assert (await member.call("POST", "/routes", {"name": "mine", "targets": ["echo"]}))[0] == 403
    assert (await Client(session, gateway.address, None).call("GET", "/routes"))[0] == 401
    assert (await operator.call("DELETE", "/routes/everyones"))[0] == 200


def test_the_command_line_sets_lists_shows_and_removes(gateway: Gateway) -> None:
    words = ("gpt-4o-mini,weight=3", "mini", "then", "claude-3-haiku,timeoutS=20.5")
    wrong = gateway.run("route", "set", "cli", *words)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "groups[0][1].model" in wrong.stderr
    made = gateway.run("route", "set", "cli", words[0], "echo", *words[2:], "--attempts", "1")
    assert made.stdout == "set cli: gpt-4o-mini (weight 3), echo then claude-3-haiku (20.5 s)\n", made.stderr
    assert "cli " in gateway.run("route", "list").stdout
    shown = json.loads(gateway.run("route", "show", "cli").stdout)
    assert (shown["attempts"], shown["groups"][1][0]["timeoutS"]) == (1, 20.5)
    assert gateway.run("route", "remove", "cli").stdout == "removed cli\n"
    assert gateway.run("route", "show", "cli").returncode == 2


MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]


async def test_every_surface_answers_to_the_name_of_a_route(
    client: Client, gateway: Gateway, upstream: RunningProvider
) -> None:
    for name, model in (
        ("chat", "gpt-4o-mini"),
        ("embed", "text-embedding-3-small"),
        ("text", "gpt-3.5-turbo-instruct"),
    ):
        await add(client, name, targets=[model])
    status, answer, _ = await client.chat("hello", model="chat")
    assert (status, answer["data"]["model"], answer["data"]["provider"]) == (200, "gpt-4o-mini", "openai")
    status, answer, _ = await client.call("POST", "/completions/embeddings", {"model": "embed", "input": "hello"})
    assert (status, answer["data"]["model"]) == (200, "text-embedding-3-small")
    openai = AsyncOpenAI(api_key=client.key, base_url=f"{gateway.address}/v1", max_retries=0)
    anthropic = AsyncAnthropic(api_key=client.key, base_url=gateway.address, max_retries=0)
    async with openai, anthropic:
        assert (await openai.chat.completions.create(model="chat", messages=MESSAGES)).choices
        stream = await openai.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        assert [chunk async for chunk in stream]
        assert (await openai.responses.create(model="chat", input="hello")).output_text
        assert (await openai.embeddings.create(model="embed", input="hello")).data
        assert (await openai.completions.create(model="text", prompt="hello")).choices
        assert (await anthropic.messages.create(model="chat", messages=MESSAGES, max_tokens=99)).content
        assert (await anthropic.messages.count_tokens(model="chat", messages=MESSAGES)).input_tokens
        asked = [json.loads(request.body)["model"] for request in upstream.requests(6)]
        assert set(asked) == {"gpt-4o-mini", "text-embedding-3-small", "gpt-3.5-turbo-instruct"}
        listed = {model.id: model async for model in openai.models.list()}
        assert (listed["chat"].owned_by, (await anthropic.models.retrieve("chat")).id) == ("route", "chat")


async def test_a_route_goes_before_the_model_of_its_name(client: Client) -> None:
    await add(client, "gpt-4o", targets=["claude-3-haiku"])
    _, answer, headers = await client.chat("hello", model="gpt-4o")
    assert (answer["data"]["provider"], headers["x-gateway-provider"]) == ("anthropic", "anthropic")
    _, answer, _ = await client.chat("hello", model="openai/gpt-4o")
    assert answer["data"]["provider"] == "openai"
    await client.call("DELETE", "/routes/gpt-4o")

    async def is_the_models() -> bool:
        _, answer, _ = await client.chat("hello", model="gpt-4o", cache=False)
        return bool(answer["data"]["provider"] == "openai")

    await eventually_so(is_the_models, within_s=NEWS_S)


async def test_a_key_that_may_use_a_route_may_use_its_targets_through_it_alone(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    await add(client, "fast", targets=["gpt-4o-mini"])
    await add(client, "other", targets=["claude-3-haiku"])
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "held", "models": ["fast"]})
    held = Client(session, gateway.address, issued["data"]["apiKey"])
    assert (await held.chat("hello", model="fast"))[0] == 200
    for model in ("gpt-4o-mini", "other"):
        status, answer, _ = await held.chat("hello", model=model)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN"), model
    _, listed, _ = await held.call("GET", "/models")
    assert [model["name"] for model in listed["data"]] == ["fast"]
    _, routes, _ = await held.call("GET", "/routes")
    assert [route["name"] for route in routes["data"]] == ["fast"]
    assert [(await held.call("GET", f"/routes/{name}"))[0] for name in ("fast", "other")] == [200, 404]


async def test_a_plan_says_which_targets_are_tried_and_why_others_are_not(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    await add(
        client,
        "fast",
        groups=[[{"model": "gpt-4o-mini", "timeoutS": 9}], ["openai/nobody-knows-it"], ["claude-3-haiku", "echo"]],
    )
    await client.call("PATCH", "/projects/me", {"dailyBudget": 5})
    before = upstream.calls
    status, answer, _ = await client.call("POST", "/routes/fast/plan")
    assert status == 200
    first, *others = answer["data"]["targets"]
    assert (first["turn"], first["model"], first["provider"], first["timeoutS"]) == (1, "gpt-4o-mini", "openai", 9)
    assert {one["model"] for one in others} == {"claude-3-haiku", "echo"}
    (left_out,) = answer["data"]["leftOut"]
    assert (left_out["model"], left_out["reason"]) == ("openai/nobody-knows-it", "no_price")
    asked = {"messages": MESSAGES, "maxTokens": 100, "model": "fast"}
    _, answer, _ = await client.call("POST", "/routes/fast/plan", asked)
    assert answer["data"]["targets"][0]["mostCost"] > 0
    _, answer, _ = await client.call("POST", "/routes/fast/plan", {"input": "hello"})
    reasons = {one["model"]: one["reason"] for one in answer["data"]["leftOut"]}
    assert reasons == {"claude-3-haiku": "refused", "openai/nobody-knows-it": "no_price"}
    status, answer, _ = await client.call("POST", "/routes/fast/plan", asked | {"model": "gpt-4o"})
    assert (status, answer["error"]["details"]) == (400, {"field": "model"})
    assert (await client.call("POST", "/routes/slow/plan"))[0] == 404
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "held", "models": ["echo"]})
    held = Client(session, gateway.address, issued["data"]["apiKey"])
    _, answer, _ = await held.call("POST", "/routes/fast/plan")
    assert [one["model"] for one in answer["data"]["targets"]] == ["echo"]
    assert {one["reason"] for one in answer["data"]["leftOut"]} == {"not_allowed"}
    assert upstream.calls == before


async def test_a_target_may_name_one_of_its_providers_credentials(client: Client, upstream: RunningProvider) -> None:
    path = "/projects/providers/openai/credentials"
    for name in ("eu", "us"):
        assert (await client.call("POST", path, {"name": name, "apiKey": f"sk-of-the-{name}"}))[0] == 201
    target = {"model": "gpt-4o-mini", "credential": "asia"}
    status, answer, _ = await client.call("POST", "/routes", {"name": "here", "targets": [target]})
    assert (status, answer["error"]["details"]) == (400, {"field": "targets[0].credential"})
    await add(client, "here", targets=[target | {"credential": "eu"}])
    for number in range(6):
        assert (await client.chat(f"hello {number}", model="here"))[0] == 200
    assert {one.header("authorization") for one in upstream.requests(6)} == {"Bearer sk-of-the-eu"}
    await client.call("DELETE", f"{path}/eu")
    _, answer, _ = await client.call("POST", "/routes/here/plan")
    (left_out,) = answer["data"]["leftOut"]
    assert (left_out["reason"], "it has us" in left_out["message"]) == ("no_credential", True)
