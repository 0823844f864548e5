"""The processes of `gateway up` have a database role each, and none of them has the owner's address."""

import aiohttp
import asyncpg
import msgspec
import pytest

from cli.processes import RUNNING_FILE, Running
from infra.embedded_postgres import OWNER, ROLES, SUPERUSER
from migrations.roles import Process
from tests.support.gateway import Client, Gateway, new_project
from tests.support.process_memory import has_in_memory, variable_of

ATTACKS = (
    "UPDATE events SET data = '{}'",
    "DELETE FROM events WHERE position = (SELECT max(position) FROM events)",
    "TRUNCATE events",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "DELETE FROM inflight",
    "UPDATE api_keys SET daily_budget_nano_usd = NULL",
    "COPY projects TO PROGRAM 'cat'",
    "SELECT pg_read_file('PG_VERSION')",
    "CREATE TABLE mine ()",
    "CREATE TEMPORARY TABLE events ()",
)


def running(gateway: Gateway) -> Running:
    return msgspec.json.decode((gateway.data_dir / RUNNING_FILE).read_bytes(), type=Running)


@pytest.mark.parametrize("process", sorted(ROLES))
async def test_each_process_is_refused_what_is_not_its_work(
    gateway: Gateway, session: aiohttp.ClientSession, process: Process
) -> None:
    """The attack runs with the address that stands in the process's environment, while a bystander is served."""
    bystander = await new_project(gateway, session)
    url = variable_of(gateway.processes(process)[0], "GATEWAY_DATABASE_URL")
    attacker = await asyncpg.connect(url)
    try:
        assert await attacker.fetchval("SELECT current_user") == ROLES[process]
        for attack in ATTACKS:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await attacker.execute(attack)
    finally:
        await attacker.close()
    status, answer, _ = await bystander.chat("Who is there?", model="echo")
    assert status == 200, answer
    assert gateway.run("audit", "verify").returncode == 0


async def test_no_process_has_the_owners_address(gateway: Gateway, client: Client) -> None:
    assert (await client.chat("hello", model="echo"))[0] == 200
    for process in ROLES:
        for one in gateway.processes(process):
            assert not has_in_memory(one, f"//{OWNER}@")
            assert not has_in_memory(one, f"//{SUPERUSER}@")
    assert running(gateway).owner_url is not None
    assert "database_role" not in gateway.errors() + gateway.greeting()


async def test_the_operators_commands_work(gateway: Gateway, client: Client) -> None:
    assert (await client.chat("hello", model="echo"))[0] == 200
    for command in (
        ("migrate",),
        ("projections", "rebuild", "keys"),
        ("projections", "rebuild", "budgets"),
        ("projections", "list"),
        ("audit", "balance"),
        ("price", "set", "openai/gpt-nobody", "--input", "1", "--output", "2"),
    ):
        done = gateway.run(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert "warning" not in done.stderr
        assert command != ("migrate",) or "it was there already" in done.stdout
    assert (await client.chat("hello again", model="echo"))[0] == 200
    retried, answer, _ = await client.chat("[[status=500]]")  # its attempts are admitted one after the other
    assert (retried, answer["error"]["code"]) == (502, "PROVIDER_UNAVAILABLE"), answer
