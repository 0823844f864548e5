"""`gateway doctor`: makes the calls that a client would make, and says in a line for each what is wrong.

`cli/doctor_clients.py` has the clients and their calls. The calls are real: their answers are a few words, and cost
what those cost.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import click
import msgspec

from cli.admin_session import DATA_DIR
from cli.doctor_clients import CLIENTS, Answer, Call, DoctorClient
from cli.processes import fail, find_running, read_settings
from cli.terminal import show

DEFAULT_BASE_URL = "http://localhost:3007"
TIMEOUT_S = 120
MAX_NAMED_MODELS = 5
FOUND_PROBLEMS = 1
_V1 = "/v1"

_WAYS_OUT: dict[int, str] = {
    401: "set the client's key to an API key of the gateway (`gateway key create NAME` makes one)",
    402: "raise the budget of the key or of its project, or set fewer output tokens in the client",
    403: "the key may not do this: use another, or change its models",
    404: "choose a model with --model that the key can ask",
    413: "raise GATEWAY_MAX_BODY_BYTES",
    429: "wait a moment, or raise the key's limits or budget",
    502: "the provider did not answer as it should: look at its key (OPENAI_API_KEY, ANTHROPIC_API_KEY) and address",
    503: "the gateway is not ready: GET /health/ready says why",
    529: "the gateway is not ready: GET /health/ready says why",
}
"""What to do about a status."""


@click.command()
@click.argument("client", type=click.Choice(sorted(CLIENTS)))
@click.option("--model", help="Model to ask. Default: one that the key can ask and the client would.")
@click.option(
    "--base-url", help="Address of the gateway, as the client has it. Default: that of a running `gateway up`."
)
@click.option("--key", envvar="AI_GATEWAY_KEY", show_envvar=True, help="API key of the gateway, as the client has it.")
@DATA_DIR
def doctor(client: str, model: str | None, base_url: str | None, key: str | None, data_dir: Path | None) -> None:
    """Make the calls that CLIENT would make, and say what is wrong.

    Exits with 0 if CLIENT will work, with 1 if not. The calls are real: each costs a few tokens.
    """
    if not key:
        fail("an API key of the gateway is needed: set AI_GATEWAY_KEY, or give it with --key")
    if base_url is None:
        running = find_running(read_settings(data_dir=data_dir).data_dir)
        base_url = running.address if running is not None else DEFAULT_BASE_URL
    examination = _Examination(CLIENTS[client], base_url.rstrip("/"), key)
    if not asyncio.run(examination.run(model)):
        sys.exit(FOUND_PROBLEMS)


class _Examination:
    """The calls of one client, one after the other."""

    def __init__(self, client: DoctorClient, base_url: str, key: str) -> None:
        self._client = client
        self._root = base_url.removesuffix(_V1)
        self._key = key
        self._headers = client.headers(key)
        self._is_well = True

    async def run(self, model: str | None) -> bool:
        """Make the calls and print a line for each. True if all of them went well."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=True) as session:
            if not await self._reaches(session):
                return False
            models = await self._models(session)
            if models is None:
                return False
            chosen = model or self._client.choose(models)
            if chosen is None:
                return self._problem("models", "the key can ask none", "give the gateway the key of a provider")
            if not await self._knows(session, chosen, models):
                return False
            for call in self._client.calls:
                await self._check(session, call, chosen)
        if self._is_well:
            show(f"{self._client.name} will work. Set:")
            for line in self._client.settings(self._root, self._key, chosen):
                show(f"  {line}")
        return self._is_well

    async def _reaches(self, session: aiohttp.ClientSession) -> bool:
        """The first thing that clients look for: whether anything answers at the address."""
        try:
            async with session.head(f"{self._root}/", allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            way_out = "start it with `gateway up`, or give its address with --base-url"
            return self._problem("address", f"nothing answers at {self._root} ({type(error).__name__})", way_out)
        if status != 200:
            return self._problem("address", f"{self._root} answers with {status}", "give the gateway's --base-url")
        return self._fine("address", self._root)

    async def _models(self, session: aiohttp.ClientSession) -> Sequence[str] | None:
        answer = await self._ask(session, Call(name="models", method="GET", path="/v1/models?limit=1000"), "")
        if answer.status != 200:
            self._refused("key", answer)
            return None
        names = [model["id"] for model in answer.json().get("data", ())]
        self._fine("key", f"it can ask {len(names)} models")
        return names

    async def _knows(self, session: aiohttp.ClientSession, model: str, models: Sequence[str]) -> bool:
        answer = await self._ask(session, Call(name="model", method="GET", path=f"/v1/models/{model}"), model)
        if answer.status == 200:
            return self._fine("model", model)
        some = ", ".join(models[:MAX_NAMED_MODELS])
        return self._problem("model", answer.message(), f"choose one with --model that the key can ask: {some} …")

    async def _check(self, session: aiohttp.ClientSession, call: Call, model: str) -> None:
        answer = await self._ask(session, call, model)
        if answer.status != call.status:
            self._refused(call.name, answer)
        elif (problem := call.problem(answer)) is not None:
            self._problem(call.name, problem, "this is not as the client expects it: please report it")
        else:
            self._fine(call.name, ", ".join(answer.notes()))

    async def _ask(self, session: aiohttp.ClientSession, call: Call, model: str) -> Answer:
        content = msgspec.json.encode(call.body(model)) if call.body is not None else None
        headers = {**self._headers, **call.headers}
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            async with session.request(
                call.method, self._root + call.path, data=content, headers=headers, allow_redirects=False
            ) as response:
                return Answer(status=response.status, headers=dict(response.headers), body=await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            return Answer(status=0, headers={}, body=(str(error) or type(error).__name__).encode())

    def _refused(self, name: str, answer: Answer) -> bool:
        return self._problem(name, answer.message(), _WAYS_OUT.get(answer.status, ""))

    def _fine(self, name: str, what: str) -> bool:
        show(f"ok    {name}{f': {what}' if what else ''}")
        return True

    def _problem(self, name: str, what: str, way_out: str) -> bool:
        show(f"WRONG {name}: {what}{f' -> {way_out}' if way_out else ''}")
        self._is_well = False
        return False
