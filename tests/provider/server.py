"""A provider for tests: serves OpenAI's and Anthropic's APIs over real HTTP, and keeps its own bill.

Words in a prompt change the response to that request, see `steering.py`. `bill.py` has the prices. Besides the vendors'
paths, these return JSON for the tests:

    GET /_bill             the charges, the number of calls, and the calls in flight
    GET /_requests?last=9  the last requests as they were received, bodies in base64
    GET /_answers?last=9   the responses that were sent to them, bodies in base64
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from tests.provider import anthropic_wire, completions_wire, models, openai_wire, responses_rules, responses_wire
from tests.provider.exchange import Exchange, Provider, Wire, has_wrong_key, refusal
from tests.provider.recorded import MAX_RECORDED

MAX_BODY_BYTES = 64 * 1024 * 1024
PROVIDER = web.AppKey("provider", Provider)

WIRES = {
    "/v1/chat/completions": Wire(
        parse_request=openai_wire.parse_request,
        whole=openai_wire.whole,
        frames=openai_wire.frames,
        stream_error=openai_wire.stream_error,
        refuse=responses_rules.refuse_chat,
        kept=openai_wire.kept,
    ),
    "/v1/responses": Wire(
        parse_request=responses_wire.parse_request,
        whole=responses_wire.whole,
        frames=responses_wire.frames,
        stream_error=responses_wire.stream_error,
        refuse=responses_rules.refuse_response,
        names_events=True,
        kept=responses_wire.kept,
        keeps_by_default=True,
    ),
    "/v1/responses/input_tokens": Wire(
        parse_request=responses_wire.parse_request, whole=responses_wire.count_tokens, is_charged=False
    ),
    "/v1/responses/compact": Wire(parse_request=responses_wire.parse_request, whole=responses_wire.compact),
    "/v1/embeddings": Wire(
        parse_request=openai_wire.parse_embeddings_request, whole=openai_wire.embeddings, counts_output=False
    ),
    "/v1/completions": Wire(
        parse_request=completions_wire.parse_completion_request,
        whole=completions_wire.completion,
        frames=completions_wire.completion_frames,
        stream_error=openai_wire.stream_error,
    ),
    "/v1/moderations": Wire(
        parse_request=completions_wire.parse_moderation_request,
        whole=completions_wire.moderation,
        is_charged=False,
    ),
    "/v1/messages": Wire(
        parse_request=anthropic_wire.parse_request,
        whole=anthropic_wire.whole,
        frames=anthropic_wire.frames,
        stream_error=anthropic_wire.stream_error,
        names_events=True,
        is_anthropic=True,
    ),
    "/v1/messages/count_tokens": Wire(
        parse_request=anthropic_wire.parse_request,
        whole=anthropic_wire.count_tokens,
        is_anthropic=True,
        is_charged=False,
    ),
}

CHAT_ONLY = "/chat-only"
"""Below this path stands a provider that has chat completions alone, for every model."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _handler(wire: Wire) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        provider = request.app[PROVIDER]
        recording = provider.recordings.begin(request, await request.read())
        exchange = Exchange(provider, wire, request, recording)
        if exchange.model_request.stream:
            return await exchange.as_stream()
        task = asyncio.create_task(exchange.in_one_piece())
        provider.under_way.add(task)
        task.add_done_callback(provider.under_way.discard)
        return await asyncio.shield(task)  # a disconnect ends a stream, but not a response in one piece

    return handle


async def list_models(request: web.Request) -> web.Response:
    """Return every model of the vendor whose API is called."""
    return _described(request, models.listed(request))


async def one_model(request: web.Request) -> web.Response:
    """Return a model of the vendor whose API is called."""
    return _described(request, models.one(request))


def _described(request: web.Request, found: object) -> web.Response:
    recording = request.app[PROVIDER].recordings.begin(request, b"")
    status = 401 if has_wrong_key(request) else 404 if found is None else 200
    if status != 200:
        return recording.whole(refusal(status, "", is_anthropic=models.is_anthropic(request)))
    return recording.whole(web.json_response(found, headers={"x-request-id": "upstream"}))


async def stored_response(request: web.Request) -> web.Response:
    """Answer a call about a stored response: one that was streamed as it is, any other with a fixed one."""
    recording = request.app[PROVIDER].recordings.begin(request, await request.read())
    if has_wrong_key(request):
        return recording.whole(refusal(401, "", is_anthropic=False))
    below, response_id = request.match_info.get("below", ""), request.match_info["id"]
    kept = _kept(request, response_id) if request.method == "GET" and not below else None
    found = kept or responses_wire.stored(response_id, request.method, below)
    return recording.whole(web.json_response(found, headers={"x-request-id": "upstream"}))


async def stored_completion(request: web.Request) -> web.Response:
    """Return a chat completion that was streamed and is kept."""
    recording = request.app[PROVIDER].recordings.begin(request, b"")
    found = _kept(request, request.match_info["id"])
    if has_wrong_key(request) or found is None:
        return recording.whole(refusal(401 if has_wrong_key(request) else 404, "", is_anthropic=False))
    return recording.whole(web.json_response(found, headers={"x-request-id": "upstream"}))


def _kept(request: web.Request, response_id: str) -> dict[str, Any] | None:
    """Return what is kept under the id of a streamed response; None: nothing is."""
    exchange = request.app[PROVIDER].kept.get(response_id.rpartition("resp_")[2].removeprefix("chatcmpl-"))
    return exchange.kept() if exchange is not None else None


async def show_bill(request: web.Request) -> web.Response:
    """Return the charges so far, and the numbers of calls."""
    provider = request.app[PROVIDER]
    return web.json_response(
        {
            "bill": provider.bill,
            "calls": provider.calls,
            "inFlight": provider.in_flight,
            "mostInFlight": provider.most_in_flight,
        }
    )


async def show_requests(request: web.Request) -> web.Response:
    """Return the last requests, oldest first."""
    return web.json_response({"requests": request.app[PROVIDER].recordings.requests(_last(request))})


async def show_answers(request: web.Request) -> web.Response:
    """Return the responses to the last requests, in the order of the requests."""
    return web.json_response({"answers": request.app[PROVIDER].recordings.answers(_last(request))})


def _last(request: web.Request) -> int:
    return int(request.query.get("last", MAX_RECORDED))


def make_app() -> web.Application:
    """Return the provider as a web application. `handler_cancellation` must be on: it ends streams."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[PROVIDER] = Provider()
    for path, wire in WIRES.items():
        app.router.add_post(path, _handler(wire))
    sold = replace(WIRES["/v1/chat/completions"], refuse=None)
    app.router.add_post(f"{CHAT_ONLY}/v1/chat/completions", _handler(sold))
    for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/{below:cancel}"), ("GET", "/{below:input_items}")):
        app.router.add_route(method, "/v1/responses/{id}" + below, stored_response)
    app.router.add_get("/v1/chat/completions/{id}", stored_completion)
    app.router.add_get("/v1/models", list_models)
    app.router.add_get("/v1/models/{name}", one_model)
    app.router.add_get("/_bill", show_bill)
    app.router.add_get("/_requests", show_requests)
    app.router.add_get("/_answers", show_answers)
    return app


async def serve(port: int) -> None:
    """Serve on loopback until the process ends. Print the port."""
    runner = web.AppRunner(make_app(), handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    assert site._server is not None
    print(json.dumps({"port": site._server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))
