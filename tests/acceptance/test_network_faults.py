"""The network between the processes and their servers fails under load: callers get an answer or a clear error, and all
goes on when the network does.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from msgspec import Struct

from tests.provider.running import RunningProvider
from tests.support.fleet import Fleet, Kind
from tests.support.gateway import Client
from tests.support.invariants import broken_invariants
from tests.support.load import ANSWERED, BROKE_OFF, CLEAR_ERRORS, Load, summary
from tests.support.tcp_proxy import HOST, TcpProxy

CALLERS = 6
FAULT_S = 5
LONG_S = 16
"""Longer than a statement may take."""
LATENCY_S = 0.3
MAX_WAIT_S = 45
"""For an answer or an error, on a busy machine; the deadline of the requests is 60 s."""
RECOVERED_WITHIN_S = 20
WORDS = "[[delay=100]] [[pace=20]]"


class Fault(Struct, frozen=True):
    """What happens to a link, and for how long."""

    begin: Callable[[TcpProxy], None]
    for_s: float = FAULT_S


FAULTS = {
    "latency": Fault(lambda proxy: proxy.delay(LATENCY_S)),
    "resets": Fault(lambda proxy: proxy.reset()),
    "silence": Fault(lambda proxy: proxy.hold("to server", "to client")),
    "long silence": Fault(lambda proxy: proxy.hold("to server", "to client"), LONG_S),
    "nothing to the server": Fault(lambda proxy: proxy.hold("to server")),
    "nothing to the client": Fault(lambda proxy: proxy.hold("to client")),
}
LINKS = ("api to postgresql", "api to nats", "worker to postgresql", "worker to nats", "worker to provider")
LINKS += ("projector to postgresql", "projector to nats")
SOME = (
    ("api to postgresql", "nothing to the client"),
    ("worker to postgresql", "silence"),
    ("worker to nats", "nothing to the server"),
    ("worker to provider", "resets"),
)


@pytest.fixture
async def proxies(database_url: str, nats_url: str, provider: RunningProvider) -> AsyncIterator[dict[str, TcpProxy]]:
    """Run a proxy for each link."""
    async with AsyncExitStack() as running:
        made = {}
        for link in LINKS:
            made[link] = await running.enter_async_context(_proxy_to(link, database_url, nats_url, provider).running())
        yield made


def _proxy_to(link: str, database_url: str, nats_url: str, provider: RunningProvider) -> TcpProxy:
    if link.endswith("postgresql"):
        parts = urlsplit(database_url)
        directory = parse_qs(parts.query).get("host")
        if directory is not None:
            return TcpProxy.to_unix(f"{directory[0]}/.s.PGSQL.5432")
        return TcpProxy.to_tcp(parts.hostname or HOST, parts.port or 5432)
    parts = urlsplit(nats_url if link.endswith("nats") else provider.address)
    assert parts.port is not None
    return TcpProxy.to_tcp(parts.hostname or HOST, parts.port)


@pytest.fixture
async def fleet(
    tmp_path: Path, database_url: str, nats_url: str, provider: RunningProvider, proxies: dict[str, TcpProxy]
) -> AsyncIterator[Fleet]:
    """Run a gateway whose processes reach everything through proxies."""
    database, nats = urlsplit(database_url), urlsplit(nats_url)

    def addresses_of(kind: Kind) -> dict[str, str]:
        password = f":{database.password}" if database.password else ""
        places = {
            name: f"{HOST}:{proxies[f'{kind} to {name}'].port}" for name in ("postgresql", "nats", "provider")
            if f"{kind} to {name}" in proxies
        }  # fmt: skip
        own = {
            "GATEWAY_DATABASE_URL": f"postgresql://gateway_{kind}{password}@{places['postgresql']}{database.path}",
            "GATEWAY_NATS_URL": f"nats://{nats.netloc.rpartition('@')[0]}@{places['nats']}",
        }
        if "provider" in places:
            own |= {
                "OPENAI_BASE_URL": f"http://{places['provider']}/v1",
                "ANTHROPIC_BASE_URL": f"http://{places['provider']}",
            }
        return own

    made = Fleet(
        tmp_path / "fleet",
        database_url=database_url,
        nats_url=nats_url,
        provider=provider,
        counts={"api": 1, "worker": 1, "projector": 1},
        env={"GATEWAY_REQUEST_TIMEOUT_S": "60"},
        env_of={kind: addresses_of(kind) for kind in ("api", "worker", "projector")},
    )
    async with made.running():
        yield made


async def test_some_faults_of_the_network_are_survived(
    fleet: Fleet, proxies: dict[str, TcpProxy], provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    await survives(SOME, fleet, proxies, provider, session)


@pytest.mark.matrix
@pytest.mark.parametrize("link", LINKS)
async def test_every_fault_of_a_link_is_survived(
    link: str, fleet: Fleet, proxies: dict[str, TcpProxy], provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    await survives(tuple((link, fault) for fault in FAULTS), fleet, proxies, provider, session)


async def survives(
    cases: tuple[tuple[str, str], ...],
    fleet: Fleet,
    proxies: dict[str, TcpProxy],
    provider: RunningProvider,
    session: aiohttp.ClientSession,
) -> None:
    """Let one link after the other fail for a while under load, and check what callers see, and the books."""
    admin = await fleet.new_project(session)
    wanted = {"name": "load", "rateLimit": None, "dailyBudget": 50}
    _, issued, _ = await admin.call("POST", "/projects/api-keys", wanted)
    key = issued["data"]["apiKey"]
    async with Load(session, [fleet.address()], key, WORDS).asking(CALLERS) as load:
        for link, fault in cases:
            began_s = time.monotonic()
            FAULTS[fault].begin(proxies[link])
            await asyncio.sleep(FAULTS[fault].for_s)
            proxies[link].heal()
            healed_s = time.monotonic()
            took_s = await load.until_answered(healed_s, within_s=RECOVERED_WITHIN_S)
            print(f"{link}, {fault}: {summary(load.since(began_s))}; answered {took_s:.1f} s after", flush=True)
            await fleet.until_ready(within_s=RECOVERED_WITHIN_S)
    await asyncio.sleep(1)
    client = Client(session, fleet.address(), key)
    wrong = await broken_invariants(
        fleet, client, provider, accepted=[one.prompt for one in load.asked if one.outcome == ANSWERED]
    )
    assert {one.outcome for one in load.asked} <= {ANSWERED, BROKE_OFF, *CLEAR_ERRORS}
    assert max(one.waited_s for one in load.asked) < MAX_WAIT_S
    assert sum(len(member.died_at_s) for member in fleet.all) == 0, "no process ends because a server is away"
    assert wrong == []
