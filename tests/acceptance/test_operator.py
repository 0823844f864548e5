"""A local user without the master key is not the operator: it cannot change prices, providers or other projects.

Each attack runs beside a bystander's project, whose responses, providers and costs do not change.
"""

import asyncio
import stat
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import (
    NEWS_S,
    Client,
    Gateway,
    environment_for,
    new_keyless_project,
    new_project,
    operator_of,
)
from tests.support.process_memory import has_in_memory
from tests.support.waiting import eventually_so

CHOSEN_KEY = "a-master-key-that-the-operator-chose"
METRICS_TOKEN = "a-token-for-the-metrics"
TAKING = ["gpt-4o-mini", "claude-3-haiku"]
EXPENSIVE: dict[str, Any] = {"model": "claude-3-opus", "maxTokens": 4_096, "cache": False}
"""4,096 output tokens of this model cost $0.31."""
WAITING_BOUND_S = 30.0
"""Far above the time of a response, and far below the wait for a gateway that has stopped."""


@pytest.fixture(scope="module")
def chosen(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway whose operator has set the master key and a metrics token."""
    env = environment_for(upstream) | {"GATEWAY_MASTER_KEY": CHOSEN_KEY, "GATEWAY_METRICS_TOKEN": METRICS_TOKEN}
    running = Gateway.start(tmp_path_factory.mktemp("chosen") / "data", env=env)
    yield running
    running.stop()


async def bystanders_chat(bystander: Client, number: int) -> None:
    started = time.monotonic()
    status, answer, headers = await bystander.chat(f"bystander {number} [[tokens=1000/500]]", cache=False)
    assert (status, headers["x-gateway-provider"]) == (200, "openai"), answer
    assert answer["data"]["cost"] == Decimal("0.00045")
    assert time.monotonic() - started < WAITING_BOUND_S


async def test_master_key_is_generated_once(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    first = Gateway.start(tmp_path / "data")
    path = tmp_path / "data" / "master.key"
    try:
        assert first.shown_master_key == first.master_key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "$5 a day" in first.greeting()
        assert first.master_key not in first.errors()
        for command in ("worker", "projector"):
            (process,) = first.processes(command)
            assert not has_in_memory(process, first.master_key)
        status, _, _ = await operator_of(first, session).call("GET", "/providers")
        assert status == 200
    finally:
        first.stop()
    second = Gateway.start(tmp_path / "data")
    try:
        assert (second.shown_master_key, second.master_key) == (None, first.master_key)
        assert str(path) in second.greeting()
        assert second.master_key not in second.greeting() + second.errors()
    finally:
        second.stop()


async def test_a_newcomer_creates_a_project_without_a_key(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    newcomer = await new_keyless_project(gateway, session)
    _, shown, _ = await newcomer.call("GET", "/projects/me")
    assert shown["data"]["installationDailyBudget"] == 5
    status, answer, _ = await newcomer.chat("hello [[tokens=1000/500]]")
    assert status == 200, answer
    _, budget, _ = await newcomer.call("GET", "/usage/budget")
    window = budget["data"]["project"]["installationDaily"]
    assert (window["limit"], window["spent"]) == (5, answer["data"]["cost"])
    operators = await new_project(gateway, session)
    _, shown, _ = await operators.call("GET", "/projects/me")
    assert shown["data"]["installationDailyBudget"] is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "gateway.example.com"}, 403),
        ({"X-Forwarded-For": "10.0.0.1"}, 403),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 403),
        ({"Authorization": "Bearer not-the-master-key"}, 401),
        ({"x-api-key": "not-the-master-key"}, 401),
    ],
)
async def test_only_this_machine_itself_creates_projects_without_a_key(
    gateway: Gateway, session: aiohttp.ClientSession, headers: dict[str, str], expected: int
) -> None:
    async with session.post(
        f"{gateway.address}/api/v1/projects",
        data=b'{"name": "x"}',
        headers={"Content-Type": "application/json"} | headers,
    ) as answer:
        assert answer.status == expected


async def test_nginx_proxy_is_not_loopback(gateway: Gateway) -> None:
    host, port = gateway.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /api/v1/projects HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        'Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{"name": "x"}'.encode()
    )
    status = (await reader.readline()).split()[1]
    writer.close()
    assert status == b"403"


async def test_a_local_user_changes_nothing_shared(
    gateway: Gateway, session: aiohttp.ClientSession, client: Client, upstream: RunningProvider
) -> None:
    bystander = client
    attacker = await new_keyless_project(gateway, session)
    anonymous = Client(session, gateway.address, None)
    thief = {"name": "thief", "kind": "openai", "baseUrl": upstream.openai_base_url, "apiKey": "sk-thief-canary"}
    free = {"model": "gpt-4o-mini", "inputPer1K": 0, "outputPer1K": 0}
    _, me, _ = await attacker.call("GET", "/projects/me")
    attacks: list[tuple[str, str, Any]] = [
        ("POST", "/prices", free),
        ("POST", "/providers", thief | {"models": TAKING, "replacesBuiltin": True}),
        ("GET", "/providers", None),
        ("PATCH", "/providers/thief", {"models": TAKING}),
        ("DELETE", "/providers/thief", None),
        ("PATCH", f"/projects/{me['data']['id']}", {"installationDailyBudget": None}),
    ]

    async def attack(who: Client, method: str, path: str, body: Any) -> None:
        headers = {"content-type": "application/json"} if who.key is None and body is None else {}
        status, answer, _ = await who.call(method, path, body, **headers)
        assert (status, answer["error"]["code"]) == (401, "UNAUTHORIZED"), (method, path, answer)

    await asyncio.gather(
        *(attack(who, *one) for who in (anonymous, attacker) for one in attacks),
        *(bystanders_chat(bystander, number) for number in range(8)),
    )
    status, answer, _ = await attacker.call("PATCH", "/projects/me", {"installationDailyBudget": None})
    assert (status, answer["error"]["details"]["field"]) == (400, "installationDailyBudget")
    await bystanders_chat(bystander, 8)
    _, costs, _ = await bystander.call("GET", "/usage/costs")
    assert costs["data"]["totalCost"] == 9 * Decimal("0.00045")
    assert "sk-thief-canary" not in str([request.header("authorization") for request in upstream.requests(9)])


async def test_keyless_project_stops_at_its_installation_budget(
    gateway: Gateway, session: aiohttp.ClientSession, client: Client
) -> None:
    bystander, spender = client, await new_keyless_project(gateway, session)
    fields = {"budgetWaitMs": 0, "outputCap": "refuse"}  # the provider is told to write 4,096 tokens, whatever the cap
    issued = [await spender.call("POST", "/projects/api-keys", {"name": name} | fields) for name in ("one", "other")]
    callers = [Client(session, gateway.address, answer["data"]["apiKey"]) for _, answer, _ in issued]

    async def spend(number: int) -> tuple[int, Any]:
        status, answer, _ = await callers[number % 2].chat(f"{number} [[tokens=10/4096]]", **EXPENSIVE)
        return status, answer

    results = []
    for start in range(0, 32, 8):
        batch = await asyncio.gather(
            *(spend(number) for number in range(start, start + 8)), bystanders_chat(bystander, start)
        )
        results += [one for one in batch if one is not None]
    refused = [answer for status, answer in results if status == 402]
    spent = sum(answer["data"]["cost"] for status, answer in results if status == 200)
    assert {status for status, _ in results} == {200, 402}
    assert Decimal(4) < spent <= 5
    details = refused[-1]["error"]["details"]
    assert (details["window"], details["limit"]) == ("installation's daily", 5)
    assert "provider key of the project's own" in refused[-1]["error"]["message"]
    _, budget, _ = await spender.call("GET", "/usage/budget")
    assert budget["data"]["project"]["installationDaily"]["spent"] == spent
    _, costs, _ = await bystander.call("GET", "/usage/costs")
    assert costs["data"]["totalCost"] == 4 * Decimal("0.00045")

    status, answer, _ = await spender.chat("echo goes on", model="echo")
    assert status == 200, answer

    async def spends_with(status: int) -> bool:
        return (await spend(32))[0] == status

    await spender.call("PATCH", "/projects/me", {"anthropicKey": "sk-ant-of-its-own"})
    await eventually_so(lambda: spends_with(200), within_s=NEWS_S)
    await spender.call("PATCH", "/projects/me", {"anthropicKey": None})
    await eventually_so(lambda: spends_with(402), within_s=NEWS_S)
    status, answer = await spend(33)
    assert (status, answer["error"]["code"]) == (402, "BUDGET_EXCEEDED")
    _, me, _ = await spender.call("GET", "/projects/me")
    operator = operator_of(gateway, session)
    status, shown, _ = await operator.call("PATCH", f"/projects/{me['data']['id']}", {"installationDailyBudget": None})
    assert (status, shown["data"]["installationDailyBudget"]) == (200, None)
    await eventually_so(lambda: spends_with(200), within_s=NEWS_S)


async def test_the_operator_changes_a_projects_installation_budget_from_the_shell(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    newcomer = await new_keyless_project(gateway, session)
    _, me, _ = await newcomer.call("GET", "/projects/me")
    command = ("project", "change", me["data"]["id"], "--installation-daily-budget")
    for given, shown in (("0", 0), ("none", None), ("7.5", Decimal("7.5"))):
        changed = await asyncio.to_thread(gateway.run, *command, given)
        assert changed.returncode == 0, changed.stderr
        _, me, _ = await newcomer.call("GET", "/projects/me")
        assert me["data"]["installationDailyBudget"] == shown
    wrong = await asyncio.to_thread(gateway.run, *command, "much")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


async def test_configured_master_key_is_required_for_projects(chosen: Gateway, session: aiohttp.ClientSession) -> None:
    assert chosen.shown_master_key is None
    assert not (chosen.data_dir / "master.key").exists()
    anonymous = Client(session, chosen.address, None)
    status, answer, _ = await anonymous.call("POST", "/projects", {"name": "x"})
    assert (status, answer["error"]["code"]) == (401, "UNAUTHORIZED")
    assert (await operator_of(chosen, session).call("POST", "/projects", {"name": "x"}))[0] == 201


async def test_metrics_and_health_details_need_their_token(chosen: Gateway, session: aiohttp.ClientSession) -> None:
    token = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    for headers, status, details in (
        ({}, 401, set()),
        (
            token,
            200,
            {"postgresql", "nats", "migrations", "projector", "quarantinedProjects", "queueReplicas", "openCircuits"},
        ),
    ):
        async with session.get(f"{chosen.address}/metrics", headers=headers) as answer:
            assert answer.status == status
        async with session.get(f"{chosen.address}/health/ready", headers=headers) as answer:
            assert (answer.status, set(await answer.json())) == (200, {"status"} | details)


async def test_metrics_are_open_to_this_machine_alone_without_a_token(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    for headers, status in (({}, 200), ({"Host": "gateway.example.com"}, 403), ({"X-Forwarded-For": "10.0.0.1"}, 403)):
        async with session.get(f"{gateway.address}/metrics", headers=headers) as answer:
            assert answer.status == status
        async with session.get(f"{gateway.address}/health/ready", headers=headers) as answer:
            assert (answer.status, "postgresql" in await answer.json()) == (200, status == 200)


@pytest.mark.parametrize("path", ["/projects/providers", "/providers"])
async def test_a_builtin_name_is_replaced_only_explicitly(
    gateway: Gateway, session: aiohttp.ClientSession, client: Client, upstream: RunningProvider, path: str
) -> None:
    bystander = await new_project(gateway, session)
    owner = client if path == "/projects/providers" else operator_of(gateway, session)
    azure = {
        "name": f"azure{path.count('/')}",
        "kind": "openai",
        "baseUrl": upstream.openai_base_url,
        "apiKey": "sk-azure-canary",
        "models": ["mine", "gpt-4o"],
    }
    status, answer, _ = await owner.call("POST", path, azure)
    assert (status, answer["error"]["details"]["field"]) == (400, "models")
    for part in ("gpt-4o", "replacesBuiltin", f"{azure['name']}/gpt-4o"):
        assert part in answer["error"]["message"]
    status, answer, _ = await owner.call("POST", path, azure | {"replacesBuiltin": False})
    assert (status, answer["data"]["replacesBuiltin"]) == (201, False)
    for name, provider in (("gpt-4o", "openai"), ("mine", azure["name"]), (f"{azure['name']}/gpt-4o", azure["name"])):
        status, answer, _ = await client.chat(f"of {name}", model=name)
        assert (status, answer["data"]["provider"]) == (200, provider)
    change = f"{path}/{azure['name']}"
    status, answer, _ = await owner.call("PATCH", change, {"models": ["gpt-4o", "o3"]})
    assert (status, answer["error"]["details"]["field"]) == (400, "models")
    assert (await owner.call("PATCH", change, {"replacesBuiltin": True}))[0] == 200

    async def is_taken() -> bool:
        status, answer, _ = await client.chat("taken in words", model="gpt-4o", cache=False)
        return bool((status, answer["data"]["provider"]) == (200, azure["name"]))

    await eventually_so(is_taken, within_s=NEWS_S)
    status, answer, _ = await bystander.chat("another's", model="gpt-4o")
    assert answer["data"]["provider"] == ("openai" if owner is client else azure["name"])
    assert (await owner.call("DELETE", change))[0] == 200


async def test_the_shell_shows_the_owner_of_a_builtin_name(gateway: Gateway) -> None:
    command = ("provider", "add", "shell2", "--kind", "openai", "--base-url", "https://a.example.com/v1", "--key-env")
    refused = await asyncio.to_thread(gateway.run, *command, "PATH", "--model", "gpt-4o")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "replacesBuiltin" in refused.stderr
    added = await asyncio.to_thread(gateway.run, *command, "PATH", "--model", "gpt-4o", "--no-replaces-builtin")
    assert added.returncode == 0, added.stderr
    assert (await asyncio.to_thread(gateway.run, "provider", "remove", "shell2")).returncode == 0
