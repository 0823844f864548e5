"""A provider for tests: speaks OpenAI's and Anthropic's wire over real HTTP and keeps its own bill.

Its prices are written here a second time, in dollars per million tokens and by hand, so that the gateway's books are
compared with somebody else's. What a single request meets can be steered by words in its prompt:

    [[delay=50]]      answer after 50 ms
    [[status=429]]    refuse with this status
    [[once=500]]      refuse the first time that this very prompt is asked, then answer
    [[reset]]         charge, then break the connection
    [[garbage]]       charge, then answer 200 with no JSON
    [[tokens=10/5]]   count so many tokens in and out
    [[cached=8]]      of which so many were read from the provider's cache
    [[big=100000]]    answer with so many characters
    [[tool=name]]     ask for this tool to be called
"""

import argparse
import asyncio
import hashlib
import json
import re
from decimal import Decimal
from typing import Any

from aiohttp import web

PRICES_PER_MILLION = {  # dollars in, out, read from the cache
    "gpt-4o": ("5", "15", "2.5"),
    "gpt-4o-mini": ("0.15", "0.6", "0.075"),
    "gpt-4-turbo": ("10", "30", "10"),
    "gpt-3.5-turbo": ("0.5", "1.5", "0.5"),
    "claude-3-5-sonnet-20241022": ("3", "15", "0.3"),
    "claude-3-opus-20240229": ("15", "75", "1.5"),
    "claude-3-haiku-20240307": ("0.25", "1.25", "0.03"),
    "text-embedding-3-small": ("0.02", "0", "0.02"),
}
_WORD = re.compile(r"\[\[(\w+)(?:=([^\]]*))?\]\]")


class Provider:
    """The state of the provider: what it has charged, what is under way."""

    def __init__(self) -> None:
        self.bill: list[dict[str, Any]] = []
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.seen: set[str] = set()

    def charge(self, model: str, tokens_in: int, tokens_out: int, cached: int, prompt: str) -> None:
        """Write an answered call on the bill."""
        price_in, price_out, price_cached = (Decimal(price) for price in PRICES_PER_MILLION.get(model, ("0", "0", "0")))
        dollars = (tokens_in - cached) * price_in + tokens_out * price_out + cached * price_cached
        self.bill.append(
            {
                "model": model,
                "in": tokens_in,
                "out": tokens_out,
                "cached": cached,
                "nano_usd": str(dollars * 1000),
                "prompt": hashlib.sha256(prompt.encode()).hexdigest(),
            }
        )


def steering(prompt: str) -> dict[str, str]:
    """The words that a prompt steers its own request with."""
    return {name: value or "" for name, value in _WORD.findall(prompt)}


async def answer(request: web.Request, wire: str) -> web.StreamResponse:
    """Answer, refuse or break, as the prompt says."""
    provider: Provider = request.app["provider"]
    body = await request.json()
    prompt = _prompt(body)
    words = steering(prompt)
    provider.calls += 1
    provider.in_flight += 1
    provider.most_in_flight = max(provider.most_in_flight, provider.in_flight)
    try:
        if "delay" in words:
            await asyncio.sleep(int(words["delay"]) / 1000)
        refused = _refused(request, words, provider, prompt)
        if refused:
            return _error(wire, refused, words)
        tokens_in, tokens_out = (int(n) for n in words.get("tokens", f"{len(prompt) // 4 + 8}/12").split("/"))
        cached = int(words.get("cached", "0"))
        if wire == "embeddings":
            tokens_out = 0
        provider.charge(body["model"], tokens_in, tokens_out, cached, prompt)
        if "reset" in words:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if "garbage" in words:
            return web.Response(text="<html>oops</html>")
        make = {"openai": _openai, "anthropic": _anthropic, "embeddings": _embeddings}[wire]
        return web.json_response(
            make(body, prompt, words, tokens_in, tokens_out, cached), headers={"x-request-id": "upstream"}
        )
    finally:
        provider.in_flight -= 1


def _refused(request: web.Request, words: dict[str, str], provider: Provider, prompt: str) -> int:
    key = request.headers.get("authorization", request.headers.get("x-api-key", ""))
    if "sk-wrong" in key:
        return 401
    if "once" in words and prompt not in provider.seen:
        provider.seen.add(prompt)
        return int(words["once"])
    return int(words.get("status", "0"))


def _error(wire: str, status: int, words: dict[str, str]) -> web.Response:
    message = (
        f"refused with {status}: Incorrect API key provided: sk-wrong-canary"
        if status == 401
        else f"refused with {status}"
    )
    error: dict[str, Any] = {"message": message, "type": "error", "code": None, "param": None}
    body = {"type": "error", "error": error} if wire == "anthropic" else {"error": error}
    return web.json_response(
        body, status=status, headers={"retry-after": words.get("after", "0.05")} if status == 429 else {}
    )


def _text(prompt: str, words: dict[str, str]) -> str:
    """An answer from which its prompt can be told."""
    return f"answer to {hashlib.sha256(prompt.encode()).hexdigest()[:16]}" + "x" * int(words.get("big", "0"))


def _openai(body: Any, prompt: str, words: dict[str, str], tokens_in: int, tokens_out: int, cached: int) -> Any:
    message: dict[str, Any] = {"role": "assistant", "content": _text(prompt, words), "refusal": None}
    finish = "stop"
    if "tool" in words:
        call = {"id": "call_1", "type": "function", "function": {"name": words["tool"], "arguments": '{"a": 1}'}}
        message |= {"content": None, "tool_calls": [call]}
        finish = "tool_calls"
    return {
        "id": f"chatcmpl-{hashlib.sha256(prompt.encode()).hexdigest()[:24]}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": f"{body['model']}-2024-07-18",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "system_fingerprint": "fp_test",
        "service_tier": "default",
    }


def _anthropic(body: Any, prompt: str, words: dict[str, str], tokens_in: int, tokens_out: int, cached: int) -> Any:
    content: list[dict[str, Any]] = [{"type": "text", "text": _text(prompt, words)}]
    if "tool" in words:
        content.append({"type": "tool_use", "id": "toolu_1", "name": words["tool"], "input": {"a": 1}})
    return {
        "id": f"msg_{hashlib.sha256(prompt.encode()).hexdigest()[:24]}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "tool_use" if "tool" in words else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": tokens_in - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": tokens_out,
        },
    }


def _embeddings(body: Any, _prompt: str, _words: dict[str, str], tokens_in: int, _out: int, _cached: int) -> Any:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    size = body.get("dimensions") or 8
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": [0.125 * (i + 1)] * size} for i in range(len(texts))],
        "model": body["model"],
        "usage": {"prompt_tokens": tokens_in, "total_tokens": tokens_in},
    }


def _prompt(body: Any) -> str:
    if "input" in body:
        return body["input"] if isinstance(body["input"], str) else "\n".join(body["input"])
    parts = []
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, str):
            parts.append(content)
        else:
            parts.extend(part.get("text", "") for part in content or ())
    return "\n".join(parts)


async def bill(request: web.Request) -> web.Response:
    """What has been charged so far, and how much was under way."""
    provider: Provider = request.app["provider"]
    return web.json_response(
        {
            "bill": provider.bill,
            "calls": provider.calls,
            "inFlight": provider.in_flight,
            "mostInFlight": provider.most_in_flight,
        }
    )


def make_app() -> web.Application:
    """The provider as a web application."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app["provider"] = Provider()

    def route(wire: str) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await answer(request, wire)

        return handler

    app.router.add_post("/v1/chat/completions", route("openai"))
    app.router.add_post("/v1/embeddings", route("embeddings"))
    app.router.add_post("/v1/messages", route("anthropic"))
    app.router.add_get("/_bill", bill)
    return app


async def serve(port: int) -> None:
    """Serve on loopback, say on which port, until the process is ended."""
    runner = web.AppRunner(make_app())
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
