"""A budget window that reaches a threshold sends one signed webhook, and sends it again if the receiver fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.support.gateway import Client, Gateway, new_project
from tests.support.waiting import eventually


class Receiver:
    """A webhook receiver that refuses the first `refuses` messages."""

    def __init__(self, refuses: int = 0) -> None:
        self.url = ""
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self._refuses = refuses

    async def take(self, request: web.Request) -> web.Response:
        self.messages.append((dict(request.headers), await request.read()))
        return web.Response(status=500 if len(self.messages) <= self._refuses else 204)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver(refuses=1)
    app = web.Application()
    app.router.add_post("/hook", one.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"  # type: ignore[union-attr]
    yield one
    await runner.cleanup()


async def test_each_threshold_sends_one_signed_webhook(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, receiver: Receiver
) -> None:
    _, project, _ = await client.call("PATCH", "/projects/me", {"alertUrl": receiver.url})
    secret = project["data"]["alertSecret"]
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "watched", "dailyBudget": 0.001})
    key_id = issued["data"]["id"]
    watched = Client(session, gateway.address, issued["data"]["apiKey"])
    for n in range(9):  # a tenth of the budget each
        status, answer, _ = await watched.chat(f"{n} [[tokens=0/166]]", maxTokens=167, cache=False)
        assert status == 200, answer
    await eventually(lambda: len(receiver.messages) >= 3, within_s=20)
    await asyncio.sleep(2)  # time in which a second message could arrive

    headers, body = receiver.messages[0]
    retried = [one for one in receiver.messages if one[0]["webhook-id"] == headers["webhook-id"]]
    assert len(retried) == 2, "refused once, sent again"
    alerts: dict[str, dict[str, Any]] = {}
    for headers, body in receiver.messages:
        alerts[headers["webhook-id"]] = Webhook(secret).verify(body, {k.lower(): v for k, v in headers.items()})
    assert sorted(one["data"]["thresholdPercent"] for one in alerts.values()) == [50, 80]
    one = next(one["data"] for one in alerts.values() if one["data"]["thresholdPercent"] == 50)
    assert (one["scope"], one["scopeId"], one["period"], one["limit"]) == ("key", key_id, "day", 0.001)
    assert Decimal("0.0005") <= Decimal(str(one["spent"])) <= Decimal("0.001")

    _, events, _ = await client.call("GET", "/audit/events?type=AlertTold")
    outcomes = [(event["data"]["outcome"], event["data"]["status"]) for event in events["data"]["events"]]
    assert outcomes == [("delivered", 204)] * 2


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.7/hook",
        "https://[fd00::1]/hook",
        "https://[::ffff:192.168.0.1]/hook",
        "https://user:secret@example.com/hook",
        "ftp://example.com",
    ],
)
async def test_forbidden_address_is_refused_by_name(client: Client, url: str) -> None:
    status, answer, _ = await client.call("PATCH", "/projects/me", {"alertUrl": url})
    assert (status, answer["error"]["details"]["field"]) == (400, "alertUrl"), json.dumps(answer, default=str)


class HangingReceiver:
    """A webhook receiver that answers nobody."""

    def __init__(self) -> None:
        self.waiting = 0

    async def take(self, _request: web.Request) -> web.Response:
        self.waiting += 1
        await asyncio.sleep(60)
        return web.Response(status=204)


async def spend_nine_tenths(client: Client, gateway: Gateway, session: aiohttp.ClientSession, keys: int) -> None:
    """Make keys, and have each spend so much that two thresholds are reached."""
    for n in range(keys):
        _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": f"{n}", "dailyBudget": 0.001})
        key = Client(session, gateway.address, issued["data"]["apiKey"])
        status, answer, _ = await key.chat(f"{n} [[tokens=0/1500]]", maxTokens=1_600, cache=False)
        assert status == 200, answer


async def test_a_receiver_that_hangs_delays_no_other_projects_alerts(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, receiver: Receiver
) -> None:
    hanging = HangingReceiver()
    app = web.Application()
    app.router.add_post("/hook", hanging.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)  # its cleanup waits for what hangs
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    await client.call("PATCH", "/projects/me", {"alertUrl": f"http://127.0.0.1:{port}/hook"})
    bystander = await new_project(gateway, session)
    await bystander.call("PATCH", "/projects/me", {"alertUrl": receiver.url})
    await spend_nine_tenths(client, gateway, session, keys=30)
    await eventually(lambda: hanging.waiting > 16, within_s=20)
    await spend_nine_tenths(bystander, gateway, session, keys=1)
    await eventually(lambda: len(receiver.messages) >= 3, within_s=8)  # two, the first of which it has refused once
    await runner.cleanup()
