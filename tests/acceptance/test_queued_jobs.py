"""Jobs that wait: how many a project may have, what becomes of them without their key, and who signs their ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project
from tests.support.waiting import eventually, eventually_so

MAX_OPEN_JOBS = 5
ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def narrow(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway that makes one job at a time, and lets a project have a few."""
    few = {"GATEWAY_JOB_SLOTS": "1", "GATEWAY_MAX_OPEN_JOBS": str(MAX_OPEN_JOBS)}
    running = Gateway.start(tmp_path_factory.mktemp("queued-jobs") / "data", env=environment_for(upstream) | few)
    yield running
    running.stop()


@pytest.fixture
async def owner(narrow: Gateway, session: aiohttp.ClientSession) -> Client:
    return await new_project(narrow, session)


def chat(prompt: str) -> dict[str, Any]:
    """Return a job that chats."""
    message = {"role": "user", "content": prompt}
    return {"operation": "chat", "request": {"model": "gpt-4o-mini", "messages": [message], "cache": False}}


async def accepted(client: Client, body: dict[str, Any]) -> str:
    """Have a job accepted. Return its id."""
    status, answer, _ = await client.call("POST", "/jobs", body)
    assert status == 202, answer
    return str(answer["data"]["id"])


async def job(client: Client, job_id: str) -> Any:
    """Return a job."""
    return (await client.call("GET", f"/jobs/{job_id}"))[1]["data"]


async def ended(client: Client, job_id: str) -> Any:
    """Wait until a job has ended. Return it."""

    async def has_ended() -> bool:
        return (await job(client, job_id))["status"] in ENDED

    await eventually_so(has_ended, within_s=60)
    return await job(client, job_id)


async def test_project_has_no_more_open_jobs_than_it_may_and_has_room_again_when_they_end(owner: Client) -> None:
    slow = [chat(f"{number} [[delay=700]]") for number in range(MAX_OPEN_JOBS)]
    first = await accepted(owner, slow[0])
    status, refused, headers = await owner.call("POST", "/jobs", {"requests": slow})
    assert (status, refused["error"]["code"], headers["Retry-After"]) == (429, "RATE_LIMITED", "60")
    assert refused["error"]["details"] == {"limit": MAX_OPEN_JOBS, "open": 1, "asked": MAX_OPEN_JOBS}, (
        "a job that was just accepted counts once"
    )
    others = [await accepted(owner, one) for one in slow[1:]]
    status, refused, _ = await owner.call("POST", "/jobs", chat("one too many"))
    assert (status, refused["error"]["details"]["open"]) == (429, MAX_OPEN_JOBS)
    for job_id in others:
        assert (await owner.call("DELETE", f"/jobs/{job_id}"))[0] == 200
    assert (await ended(owner, first))["status"] == "succeeded"
    await ended(owner, await accepted(owner, chat("again")))


async def test_jobs_of_a_key_that_is_revoked_fail_unless_they_run(
    owner: Client, narrow: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    _, issued, _ = await owner.call("POST", "/projects/api-keys", {"name": "revoked"})
    holder = Client(session, narrow.address, issued["data"]["apiKey"])
    calls = upstream.calls
    runs = await accepted(holder, chat("runs [[delay=2500]]"))
    waits = await accepted(holder, chat("waits"))
    await eventually(lambda: upstream.calls == calls + 1, within_s=30)
    status, _, _ = await owner.call("DELETE", f"/projects/api-keys/{issued['data']['id']}")
    assert status == 200
    assert (await job(owner, waits))["status"] == "queued"
    assert (await holder.call("POST", "/jobs", chat("more")))[0] == 401
    refused = await ended(owner, waits)
    assert (refused["status"], refused["error"]["code"], refused["error"]["status"]) == ("failed", "UNAUTHORIZED", 401)
    assert ((await ended(owner, runs))["status"], upstream.calls) == ("succeeded", calls + 1)


async def test_ends_are_signed_with_the_new_secret_and_for_a_day_with_the_former_too(owner: Client) -> None:
    messages: list[tuple[dict[str, str], bytes]] = []

    async def take(request: web.Request) -> web.Response:
        messages.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=204)

    async def secret() -> str:
        status, answer, _ = await owner.call("POST", "/projects/me/webhook-secret")
        assert status == 201, answer
        return str(answer["data"]["webhookSecret"])

    secrets = [await secret(), await secret(), await secret()]
    assert len(set(secrets)) == len(secrets)
    async with receiving(take) as url:
        await accepted(owner, {**chat("told"), "webhookUrl": url})
        await eventually(lambda: messages, within_s=60)
    ((headers, body),) = messages
    told = [_verified(one, body, headers) for one in secrets]
    assert told[0] is None, "two rotations later a secret signs nothing"
    assert told[1] == told[2]
    assert told[2]["type"] == "job.succeeded"


def _verified(secret: str, body: bytes, headers: dict[str, str]) -> Any:
    """Return what a receiver with this secret reads; None if the message is not signed with it."""
    try:
        return Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return None


@asynccontextmanager
async def receiving(take: Any) -> AsyncIterator[str]:
    """Run a webhook receiver. Yield its URL."""
    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"  # type: ignore[union-attr]
    await asyncio.sleep(0)
    await runner.cleanup()
