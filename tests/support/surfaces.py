"""Sends the same bytes to the test provider directly and through the gateway, to compare the responses."""

import json
import re
from typing import Any

import aiohttp
from msgspec import Struct

from tests.provider.running import RecordedRequest, RunningProvider
from tests.support.gateway import Client, Gateway

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
CLAUDE = "claude-3-haiku-20240307"
GPT = "gpt-4o-mini"

_COST = re.compile(rb',"cost":(?:null|[0-9.E-]+)(?=\s*\})')
_ID = re.compile(rb"\breq_\w+")
_SECRET = "sk-test-canary"


class Seen(Struct, frozen=True, kw_only=True):
    """A response as its client sees it."""

    status: int
    content_type: str
    body: bytes
    """The body, up to its end or to the break of the connection."""
    is_whole: bool
    headers: dict[str, str]
    """The headers, with names in lower case."""

    @property
    def own(self) -> tuple[int, str, bytes]:
        """Return the parts that must be the provider's: everything but the gateway's cost and ids."""
        return self.status, self.content_type, _ID.sub(b"req_", _COST.sub(b"", self.body))

    @property
    def costs(self) -> int:
        """Return how many costs the body has."""
        return len(_COST.findall(self.body))

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class Comparison:
    """The provider and the gateway in front of it, with a key."""

    def __init__(
        self, session: aiohttp.ClientSession, gateway: Gateway, upstream: RunningProvider, client: Client
    ) -> None:
        self._session = session
        self._provider = upstream
        self.client = client
        self.gateway_address = gateway.address
        self.provider_address = upstream.address
        self.key = client.key

    async def straight(self, path: str, body: bytes, **headers: str) -> Seen:
        """Send a request to the provider."""
        return await self._ask(self.provider_address + path, _SECRET, body, headers)

    async def through(self, path: str, body: bytes, **headers: str) -> Seen:
        """Send a request to the gateway."""
        return await self._ask(self.gateway_address + path, self.key, body, headers)

    async def ask(self, path: str, body: bytes) -> tuple[Seen, Seen]:
        """Send a request to the provider, then to the gateway. Return both responses."""
        return await self.straight(path, body), await self.through(path, body)

    async def arrived(self, path: str, body: bytes, **headers: str) -> RecordedRequest:
        """Send a request to the gateway. Return the request that the provider received."""
        seen = await self.through(path, body, **headers)
        assert seen.status == 200, seen
        return self._provider.requests(last=1)[0]

    async def _ask(self, url: str, secret: str | None, body: bytes, headers: dict[str, str]) -> Seen:
        sent_headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"} | headers
        received = b""
        async with self._session.post(url, data=body, headers=sent_headers) as answer:
            try:
                async for data in answer.content.iter_any():
                    received += data
                is_whole = True
            except aiohttp.ClientPayloadError:
                is_whole = False
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Seen(
                status=answer.status,
                content_type=named.get("content-type", "").partition(";")[0],
                body=received,
                is_whole=is_whole,
                headers=named,
            )


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    """Return a chat completion request."""
    return {"model": GPT, "messages": [{"role": "user", "content": prompt}]} | fields


def response(prompt: str, **fields: Any) -> dict[str, Any]:
    """Return a responses request."""
    return {"model": GPT, "input": prompt} | fields


def message(prompt: str, **fields: Any) -> dict[str, Any]:
    """Return a messages request."""
    return {"model": CLAUDE, "max_tokens": 1024, "messages": [{"role": "user", "content": prompt}]} | fields


def written(body: dict[str, Any]) -> bytes:
    """Encode a request as a client does."""
    return json.dumps(body, ensure_ascii=False).encode()
