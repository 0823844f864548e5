"""Asynchronous jobs over HTTP: accepted, run without their caller, told, cancelled; never lost."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for
from tests.support.waiting import eventually

ENDED = ("succeeded", "failed", "cancelled")


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    """Return a job that chats."""
    return {
        "operation": "chat",
        "request": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}], **fields},
    }


async def accepted(client: Client, body: dict[str, Any]) -> Any:
    """Have a job, or a batch, accepted."""
    status, answer, _ = await client.call("POST", "/jobs", body)
    assert status == 202, answer
    return answer["data"]


async def ended(client: Client, job_id: str, within_s: float = 30) -> Any:
    """Wait until a job has ended."""
    for _ in range(int(within_s / 0.1)):
        status, answer, _ = await client.call("GET", f"/jobs/{job_id}")
        assert status == 200, answer
        if answer["data"]["status"] in ENDED:
            return answer["data"]
        await asyncio.sleep(0.1)
    raise AssertionError(f"not ended: {answer}")


async def test_job_has_the_answer_of_its_synchronous_call(client: Client) -> None:
    job = await accepted(client, {**chat("what [[tokens=10/5]]"), "customId": "mine"})
    assert (job["status"], job["result"], job["customId"]) == ("queued", None, "mine")
    done = await ended(client, job["id"])
    assert (done["status"], done["runs"], done["error"]) == ("succeeded", 1, None), done
    _, answer, _ = await client.chat("what [[tokens=10/5]]")
    assert done["result"]["choices"] == answer["data"]["choices"]
    assert answer["data"]["cached"] is True, "the cache is shared with synchronous calls"
    assert done["cost"] == done["result"]["cost"] > 0
    assert done["requestId"] == done["result"]["requestId"]
    status, request, _ = await client.call("GET", f"/requests/{done['requestId']}")
    assert (status, request["data"]["status"]) == (200, "completed")


@pytest.mark.parametrize(
    ("operation", "request_body", "member"),
    [
        ("embeddings", {"input": ["a", "b"]}, "embeddings"),
        ("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "v"}]}, "choices"),
        ("/v1/responses", {"model": "gpt-4o-mini", "input": "v"}, "output"),
        (
            "/v1/messages",
            {"model": "claude-sonnet-4-5", "max_tokens": 20, "messages": [{"role": "user", "content": "v"}]},
            "content",
        ),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "v"}, "data"),
    ],
)
async def test_every_operation_has_its_own_surfaces_answer(
    client: Client, operation: str, request_body: dict[str, Any], member: str
) -> None:
    job = await accepted(client, {"operation": operation, "request": request_body})
    done = await ended(client, job["id"])
    assert done["status"] == "succeeded", done
    assert done["result"][member]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"operation": "chat"}, 400, "operation"),
        ({"operation": "paint", "request": {}}, 400, "operation"),
        (chat("x", temperature=9), 400, "temperature"),
        (chat("x", stream=True), 400, "stream"),
        ({"operation": "chat", "request": 7}, 400, "request"),
        (chat("x", model="nobody-has-this"), 404, None),
        ({**chat("x"), "webhookUrl": "https://10.0.0.7/hook"}, 400, "webhookUrl"),
        ({"requests": []}, 400, "requests"),
        ({"requests": [chat("x"), chat("x", model="nobody-has-this")]}, 404, None),
        ({"requests": [{**chat("x"), "customId": "a"}, {**chat("y"), "customId": "a"}]}, 400, "requests[1].customId"),
        ({"requests": [chat("x")], **chat("y")}, 400, None),
    ],
)
async def test_what_cannot_be_made_is_refused_at_once(
    client: Client, body: dict[str, Any], status: int, field: str | None
) -> None:
    given, answer, _ = await client.call("POST", "/jobs", body)
    assert given == status, answer
    if field is not None:
        assert answer["error"]["details"]["field"] == field
    _, page, _ = await client.call("GET", "/jobs")
    assert page["data"]["jobs"] == [], "all or none"


async def test_batch_ends_when_all_of_its_jobs_have(client: Client) -> None:
    requests = [{**chat(f"{n} [[tokens=1/1]]"), "customId": f"n{n}"} for n in range(20)]
    requests.append({**chat("no [[status=400]] [[message=never]]"), "customId": "refused"})
    batch = await accepted(client, {"requests": requests})
    assert (batch["status"], batch["counts"]["total"]) == ("in_progress", 21)

    async def progress() -> Any:
        return (await client.call("GET", f"/jobs/batches/{batch['id']}"))[1]["data"]

    for _ in range(300):
        if (await progress())["status"] == "ended":
            break
        await asyncio.sleep(0.1)
    counts = (await progress())["counts"]
    assert (counts["succeeded"], counts["failed"], counts["queued"]) == (20, 1, 0)
    _, page, _ = await client.call("GET", f"/jobs?batchId={batch['id']}&status=failed")
    (failed,) = page["data"]["jobs"]
    assert (failed["customId"], failed["error"]["code"], failed["error"]["status"]) == (
        "refused",
        "PROVIDER_REJECTED",
        400,
    )


@pytest.mark.parametrize("body", [chat("once"), {"requests": [chat("one of many")]}])
async def test_repeat_under_an_idempotency_key_gets_what_was_accepted(client: Client, body: dict[str, Any]) -> None:
    key = {"Idempotency-Key": f"jobs-{'requests' in body}"}
    status, first, headers = await client.call("POST", "/jobs", body, **key)
    assert (status, "idempotent-replayed" in headers) == (202, False), first
    status, again, headers = await client.call("POST", "/jobs", body, **key)
    assert (status, headers["idempotent-replayed"]) == (202, "true"), again
    assert again["data"]["id"] == first["data"]["id"]
    status, refused, _ = await client.call("POST", "/jobs", chat("another"), **key)
    assert (status, refused["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")


async def test_member_sees_its_own_jobs_and_an_admin_the_projects(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "member"})
    member = Client(session, gateway.address, issued["data"]["apiKey"])
    of_admin, of_member = await accepted(client, chat("a")), await accepted(member, chat("m"))
    _, seen, _ = await member.call("GET", "/jobs")
    assert [job["id"] for job in seen["data"]["jobs"]] == [of_member["id"]]
    assert (await member.call("GET", f"/jobs/{of_admin['id']}"))[0] == 404
    assert (await member.call("DELETE", f"/jobs/{of_admin['id']}"))[0] == 404
    _, seen, _ = await client.call("GET", "/jobs")
    assert {job["id"] for job in seen["data"]["jobs"]} == {of_admin["id"], of_member["id"]}


async def test_job_that_the_budget_does_not_cover_fails_with_the_reason(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "poor", "dailyBudget": 0.0000001})
    poor = Client(session, gateway.address, issued["data"]["apiKey"])
    done = await ended(poor, (await accepted(poor, chat("much")))["id"])
    assert (done["status"], done["error"]["code"], done["error"]["status"]) == ("failed", "BUDGET_EXCEEDED", 402)


async def test_cancelled_job_has_no_result_and_the_call_that_had_begun_is_charged(client: Client) -> None:
    slow = await accepted(client, chat("slow [[delay=1500]]"))
    await eventually_running(client, slow["id"])
    status, answer, _ = await client.call("DELETE", f"/jobs/{slow['id']}")
    assert (status, answer["data"]["status"]) == (200, "cancelled")
    await asyncio.sleep(2.5)
    _, answer, _ = await client.call("GET", f"/jobs/{slow['id']}")
    assert (answer["data"]["status"], answer["data"]["result"]) == ("cancelled", None)
    assert answer["data"]["cost"] > 0, "a call that has begun is charged"


async def eventually_running(client: Client, job_id: str) -> None:
    """Wait until a job runs."""
    for _ in range(200):
        _, answer, _ = await client.call("GET", f"/jobs/{job_id}")
        if answer["data"]["status"] == "running":
            return
        await asyncio.sleep(0.05)
    raise AssertionError(answer)


async def test_end_is_told_by_a_signed_webhook_until_it_is_taken(client: Client) -> None:
    messages: list[tuple[dict[str, str], bytes]] = []

    async def take(request: web.Request) -> web.Response:
        messages.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=500 if len(messages) == 1 else 204)

    async with receiving(take) as url:
        _, project, _ = await client.call("PATCH", "/projects/me", {"alertUrl": url})
        job = await accepted(client, {**chat("told"), "webhookUrl": url, "customId": "mine"})
        await eventually(lambda: len(messages) >= 2, within_s=30)
        told = [Webhook(project["data"]["alertSecret"]).verify(body, headers) for headers, body in messages]
        assert {headers["webhook-id"] for headers, _ in messages} == {job["id"]}, "one message, sent again"
        assert told[0] == told[1]
        assert (told[0]["type"], told[0]["data"]["customId"]) == ("job.succeeded", "mine")
        assert "result" not in told[0]["data"], "no content leaves by a webhook"
        for _ in range(100):
            _, answer, _ = await client.call("GET", f"/jobs/{job['id']}")
            if answer["data"]["webhook"]["outcome"] is not None:
                break
            await asyncio.sleep(0.1)
        assert answer["data"]["webhook"] == {"url": url, "outcome": "delivered", "status": 204}


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
    await runner.cleanup()


@pytest.fixture
def own(tmp_path: Path, provider: RunningProvider) -> Iterator[Gateway]:
    """Run a gateway that a test may break."""
    gateway = Gateway.start(tmp_path / "data", env=environment_for(provider))
    yield gateway
    gateway.stop()


async def test_processes_that_die_lose_no_job_and_no_answer_is_paid_twice(
    own: Gateway, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    client = Client(session, own.address, own.first_key)
    slow = await accepted(client, chat("slow [[delay=4000]]", cache=False))
    await eventually_running(client, slow["id"])
    await eventually(lambda: provider.calls == 1, within_s=20)
    (api,) = own.processes("api")
    api.kill()
    await eventually(lambda: any(one.pid != api.pid for one in own.processes("api")), within_s=60)
    done = await ended(client, slow["id"], within_s=90)
    assert (done["status"], done["runs"], provider.calls) == ("succeeded", 1, 1), "the log had its answer"

    prompts = [f"job {n} [[delay=1500]] [[tokens=40/20]]" for n in range(30)]
    batch = await accepted(client, {"requests": [chat(prompt) for prompt in prompts]})
    await eventually(lambda: provider.calls >= 3, within_s=30)
    own.kill_all()
    shutil.rmtree(own.data_dir / "nats" / "jetstream")
    again = Gateway.start(own.data_dir, env=environment_for(provider))
    try:
        client = Client(session, again.address, own.first_key)
        for _ in range(1200):
            _, answer, _ = await client.call("GET", f"/jobs/batches/{batch['id']}")
            if answer["data"]["status"] == "ended":
                break
            await asyncio.sleep(0.1)
        assert answer["data"]["counts"]["succeeded"] == len(prompts), answer
        proved = await asyncio.to_thread(again.run, "audit", "balance")
        assert proved.returncode == 0, proved.stdout
        replayed = (await asyncio.to_thread(again.run, "replay", "--json")).stdout.splitlines()
        lost = sum(json.loads(line)["type"] == "AttemptLost" for line in replayed)
        billed = Counter(row["prompt"] for row in provider.bill())
        assert len(billed) == 1 + len(prompts)
        assert sum(billed.values()) <= 1 + len(prompts) + lost, "each call beyond one of a job is assumed"
    finally:
        again.stop()
