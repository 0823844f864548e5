"""No response of a provider stops the projections, not even for its own project."""

from urllib.parse import quote

import aiohttp
import pytest

from tests.support.gateway import Client, Gateway
from tests.support.streams import CHAT_GPT, MESSAGES_CLAUDE, NATIVE_GPT, RESPONSES_GPT, StreamCall, Streamer

NUL = quote("bad\0thing")
LONG = "x" * 5_000
SAID = {
    "an error inside the stream": f"[[streamerror=0]] [[message={NUL}{LONG}]]",
    "a count": "[[usage=huge]]",
    "an id": f"[[id={NUL}{LONG}]]",
    "a text": f"[[say={NUL}]]",
}
VIEWS = ("/usage/stats", "/usage/costs", "/usage/budget", "/requests")


@pytest.fixture
def caller(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    assert client.key is not None
    return Streamer(session, gateway.address, client.key)


@pytest.mark.parametrize("word", SAID.values(), ids=SAID.keys())
@pytest.mark.parametrize("call", [NATIVE_GPT, CHAT_GPT, RESPONSES_GPT, MESSAGES_CLAUDE], ids=lambda call: call.name)
async def test_hostile_responses_do_not_stop_the_projections(
    word: str, call: StreamCall, client: Client, caller: Streamer
) -> None:
    await caller.read(call, call.body(word, stream=True))
    await caller.read(call, call.body(word, stream=False))
    await caller.read(call, call.body("hello", stream=False))
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["requests"] == 3
    assert [(await client.call("GET", view))[0] for view in VIEWS] == [200] * len(VIEWS)
