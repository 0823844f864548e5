"""`gateway doctor` says whether a client will work, in a line for each call that the client would make."""

import asyncio
import os
import subprocess

import aiohttp
import pytest

from tests.support.gateway import COMMAND, Client, Gateway, clean_environment, new_project

CLIENTS = ["claude-code", "codex", "openai", "anthropic"]
NOWHERE = "http://127.0.0.1:9"


async def examine(gateway: Gateway, client: Client | None, *arguments: str) -> "subprocess.CompletedProcess[str]":
    key = {"AI_GATEWAY_KEY": str(client.key)} if client is not None else {}
    return await asyncio.to_thread(
        subprocess.run,
        [COMMAND, "doctor", *arguments, "--data-dir", str(gateway.data_dir)],
        env={name: value for name, value in clean_environment(key).items() if name != "AI_GATEWAY_KEY" or key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
async def mine(gateway: Gateway, session: aiohttp.ClientSession) -> Client:
    return await new_project(gateway, session)


@pytest.mark.parametrize("name", CLIENTS)
async def test_each_client_is_told_that_it_will_work_and_what_to_set(gateway: Gateway, mine: Client, name: str) -> None:
    done = await examine(gateway, mine, name)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok") for line in lines[: lines.index(next(x for x in lines if "will work" in x))])
    assert gateway.address in done.stdout
    assert str(mine.key) not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "model"), [("claude-code", "gpt-4o"), ("codex", "claude-sonnet-4-5"), ("openai", "claude-sonnet-4-5")]
)
async def test_a_model_of_another_vendor_works_too(gateway: Gateway, mine: Client, name: str, model: str) -> None:
    done = await examine(gateway, mine, name, "--model", model, "--base-url", f"{gateway.address}/v1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"model: {model}" in done.stdout


async def test_the_calls_are_real_and_stand_in_the_usage(gateway: Gateway, mine: Client) -> None:
    await examine(gateway, mine, "claude-code")
    _, answer, _ = await mine.call("GET", "/usage/costs?groupBy=client")
    assert {line["client"]: line["requests"] for line in answer["data"]["breakdown"]} == {"claude-cli": 3}


@pytest.mark.parametrize("name", CLIENTS)
async def test_what_is_wrong_is_said_with_what_to_set(
    gateway: Gateway, session: aiohttp.ClientSession, mine: Client, name: str
) -> None:
    done = await examine(gateway, mine, name, "--base-url", NOWHERE)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith(f"WRONG address: nothing answers at {NOWHERE}")
    assert "gateway up" in done.stdout
    done = await examine(gateway, Client(session, gateway.address, "gw_live_not-a-key"), name)
    assert done.returncode == 1
    assert "WRONG key: 401" in done.stdout
    assert "gateway key create" in done.stdout
    done = await examine(gateway, mine, name, "--model", "llama-nowhere")
    assert done.returncode == 1
    assert "WRONG model: 404" in done.stdout
    assert "--model" in done.stdout


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_budget_without_room_is_what_is_wrong(
    gateway: Gateway, session: aiohttp.ClientSession, mine: Client, name: str
) -> None:
    _, issued, _ = await mine.call("POST", "/projects/api-keys", {"name": "poor", "dailyBudget": 0})
    done = await examine(gateway, Client(session, gateway.address, issued["data"]["apiKey"]), name)
    assert done.returncode == 1
    assert "the daily budget of $0 does not cover this request" in done.stdout
    assert "will work" not in done.stdout


async def test_without_a_key_it_says_how_to_give_one(gateway: Gateway) -> None:
    assert "AI_GATEWAY_KEY" not in os.environ
    done = await examine(gateway, None, "openai")
    assert (done.returncode, done.stdout) == (2, "")
    assert "AI_GATEWAY_KEY" in done.stderr
