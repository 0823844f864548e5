"""A Litestar handler that decodes a chat request and answers it, and does nothing else.

It runs on the server and with the options of our own API process. What it costs is the least that any gateway costs
that is written with these libraries, so other costs are told as multiples of it: that holds on any machine.
"""

import argparse
import time

import uvicorn
import uvloop
from litestar import Litestar, get, post
from litestar.openapi.config import OpenAPIConfig
from msgspec import Struct

from bench.stub_provider import TOKENS_IN

TOKENS_OUT = 64


class Message(Struct):
    """A message of a request or an answer."""

    role: str
    content: str


class ChatRequest(Struct):
    """A chat request."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    temperature: float | None = None
    stream: bool = False


class Choice(Struct):
    """A choice of an answer."""

    index: int
    message: Message
    finish_reason: str


class Usage(Struct):
    """The tokens of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(Struct):
    """An answer."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


@post("/v1/chat/completions", status_code=200)
async def chat(data: ChatRequest) -> ChatAnswer:
    """Answer with 64 tokens."""
    message = Message(role="assistant", content=" Paris" * TOKENS_OUT)
    return ChatAnswer(
        id=f"chatcmpl-{len(data.messages[-1].content)}",
        object="chat.completion",
        created=int(time.time()),
        model=data.model,
        choices=[Choice(index=0, message=message, finish_reason="stop")],
        usage=Usage(prompt_tokens=TOKENS_IN, completion_tokens=TOKENS_OUT, total_tokens=TOKENS_IN + TOKENS_OUT),
    )


@get("/ready")
async def ready() -> str:
    """Say that it is ready."""
    return "ready"


async def serve(port: int) -> None:
    """Serve on loopback until the process ends."""
    app = Litestar(
        route_handlers=[chat, ready], openapi_config=OpenAPIConfig(title="bare", version="1"), logging_config=None
    )
    options = {"loop": "none", "http": "httptools", "ws": "none", "access_log": False, "log_config": None}
    await uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, server_header=False, **options)).serve()  # type: ignore[arg-type]  # Litestar's ASGI types and uvicorn's are the same protocol


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
