"""An auditor finds what the owner of a gateway's database did to the log. The database is the gateway's own."""

import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
import pytest

from cli.processes import RUNNING_FILE, Running
from domain.log_head import decode_head
from infra.audit_keys import AuditKey, encode_key
from infra.database import open_pool
from infra.head_anchors import read_anchors
from infra.raw_events import raw_batches
from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project
from tests.support.owner import DatabaseOwner
from tests.support.process_memory import has_in_memory, variable_of
from tests.support.waiting import eventually_so

POSITION = "x-gateway-log-position"


@pytest.fixture
def own_gateway(upstream: RunningProvider, tmp_path: Path) -> Iterator[Gateway]:
    """Run a gateway that a test may break."""
    running = Gateway.start(tmp_path / "data", env=environment_for(upstream) | {"GATEWAY_AUDIT_INTERVAL_S": "1"})
    yield running
    running.stop()


def owner_url(gateway: Gateway) -> str:
    url = msgspec.json.decode((gateway.data_dir / RUNNING_FILE).read_bytes(), type=Running).owner_url
    assert url is not None
    return url


async def answered(client: Client, prompt: str) -> str:
    """Ask once, and return the log's position that the answer carries."""
    status, answer, headers = await client.chat(prompt)
    assert status == 200, answer
    return headers[POSITION]


async def signed_up_to(gateway: Gateway, written: str) -> None:
    """Wait until a head is signed that is as new as a position."""
    position = int(written.partition(":")[0])
    anchors = gateway.data_dir / "audit.anchors"

    async def is_signed() -> bool:
        return anchors.is_file() and any(head.position >= position for head in read_anchors(anchors).heads)

    await eventually_so(is_signed)


async def test_an_auditor_proves_the_log_and_finds_what_its_owner_did(
    own_gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    client = await new_project(own_gateway, session)
    first = await answered(client, "first")
    await signed_up_to(own_gateway, first)
    last = await answered(client, "last")
    await signed_up_to(own_gateway, last)

    proven = own_gateway.run("audit", "verify", "--head", first, "--head", last)
    assert (proven.returncode, "intact:" in proven.stdout, "signed:" in proven.stdout) == (0, True, True), proven
    unknown = own_gateway.run("audit", "verify", "--public-key", encode_key(AuditKey(b"o" * 32).public))
    assert (unknown.returncode, "not known here" in unknown.stdout) == (3, True), unknown

    pool = await open_pool(owner_url(own_gateway), name="owner", size=2)
    owner, cut_at = DatabaseOwner(pool), await batch_end_before(pool, int(last.partition(":")[0]))
    await owner.cut_after(cut_at)
    found = own_gateway.run("audit", "verify")
    assert (found.returncode, "its end was cut off" in found.stdout) == (1, True), found
    by_client = own_gateway.run("audit", "verify", "--anchors", "/dev/null", "--head", last)
    assert (by_client.returncode, "its end was cut off" in by_client.stdout) == (1, True), by_client
    await pool.close()
    assert own_gateway.run("audit", "verify", "--head", "1:abc").returncode == 2

    declared = own_gateway.run("audit", "restored", "--reason", "the disk failed")
    assert declared.returncode == 0, declared
    await signed_up_to(own_gateway, await answered(client, "after the restore"))
    gone_on = own_gateway.run("audit", "verify")
    assert (gone_on.returncode, "(the disk failed)" in gone_on.stdout) == (0, True), gone_on
    assert own_gateway.run("audit", "verify", "--head", last).returncode == 1

    for projection in ("usage", "budgets", "requests"):  # they have counted what is gone
        rebuilt = own_gateway.run("projections", "rebuild", projection)
        assert rebuilt.returncode == 0, rebuilt
    balance = own_gateway.run("audit", "balance")
    assert balance.returncode == 0, balance
    await answered(client, "booked again")
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["requests"] == 3


async def batch_end_before(pool: asyncpg.Pool, position: int) -> int:
    """Return the end of the newest batch before a position that leaves the log shorter than what was signed."""
    ends = [
        event.position
        async for batch in raw_batches(pool)
        for event in batch
        if event.chain is not None and event.position < position
    ]
    return ends[-1]


async def test_an_event_that_was_never_appended_is_not_booked(
    own_gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    client = await new_project(own_gateway, session)
    written = await answered(client, "one")
    _, before, _ = await client.call("GET", "/usage/stats")
    pool = await open_pool(owner_url(own_gateway), name="owner", size=2)
    booked = await pool.fetchrow("SELECT * , data::text AS text FROM events WHERE type = 'CostIncurred' LIMIT 1")
    await DatabaseOwner(pool).add_beyond_head(
        int(written.partition(":")[0]) + 50,
        "CostIncurred",
        booked["text"],
        project_id=booked["project_id"],
        stream="request-planted",
    )
    await pool.close()
    await answered(client, "two")
    _, after, _ = await client.call("GET", "/usage/stats")
    spent = [stats["data"]["totals"]["cost"] for stats in (before, after)]
    assert spent[1] == 2 * spent[0] > 0  # the same model, prompts of one length
    found = own_gateway.run("audit", "verify")
    assert (found.returncode, "beyond the head" in found.stdout) == (1, True), found


async def test_what_was_appended_last_is_signed_when_the_gateway_stops(
    upstream: RunningProvider, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    running = Gateway.start(tmp_path / "data", env=environment_for(upstream) | {"GATEWAY_AUDIT_INTERVAL_S": "3600"})
    try:
        written = await answered(await new_project(running, session), "only")
    finally:
        assert running.stop() == 0
    newest = read_anchors(tmp_path / "data" / "audit.anchors").heads[-1]
    assert newest.position >= int(written.partition(":")[0])


async def test_the_key_that_signs_is_the_projectors_alone(gateway: Gateway) -> None:
    (projector,) = gateway.processes("projector")
    key = (gateway.data_dir / "audit.key").read_text().strip()
    assert variable_of(projector, "GATEWAY_AUDIT_KEY") == key
    for kind in ("fork-server", "api", "worker"):
        for process in gateway.processes(kind):
            assert not has_in_memory(process, key), process


async def test_heads_and_keys_are_printed_for_others_to_verify(gateway: Gateway, client: Client) -> None:
    await answered(client, "one to sign")
    key_id, public_key = gateway.run("audit", "keys").stdout.split()
    verified = gateway.run("audit", "verify", "--public-key", public_key)
    assert verified.returncode == 0, verified
    heads = [decode_head(line.encode()) for line in gateway.run("audit", "heads").stdout.splitlines()]
    assert {head.key_id for head in heads} <= {key_id}
    exported = [json.loads(line) for line in gateway.run("audit", "export").stdout.splitlines()]
    chains = {event["position"]: event["chain"] for event in exported}
    assert all(chains[head.position] == head.digest.hex() for head in heads)
    assert gateway.run("audit", "verify", "--public-key", "short").returncode == 2


async def test_only_those_with_a_key_are_told_the_logs_position(
    gateway: Gateway, session: aiohttp.ClientSession, client: Client
) -> None:
    await answered(client, "one")
    _, _, read = await client.call("GET", "/usage/stats")
    assert POSITION in read
    _, _, refused = await client.call("POST", "/completions/chat", {"model": "no-such-model", "messages": []})
    assert POSITION in refused
    async with session.post(
        f"{gateway.address}/v1/chat/completions",
        json={"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "streamed"}]},
        headers={"authorization": f"Bearer {client.key}"},
    ) as streamed:
        assert POSITION in streamed.headers
        await streamed.read()
    for path in ("/health/live", "/health/ready", "/api/v1/usage/stats", "/v1/models"):
        async with session.get(f"{gateway.address}{path}") as stranger:
            assert POSITION not in stranger.headers, path
