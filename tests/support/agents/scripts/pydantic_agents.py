"""Pydantic AI: an agent with a tool, an object, and a picture. Prints the outcome as JSON."""

import asyncio
import base64
import json
import sys
from typing import Annotated, Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel, Field
from pydantic_ai import Agent, BinaryContent, ToolReturnPart
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

OPTIONS = json.loads(sys.argv[1])


class Trip(BaseModel):
    """A journey."""

    city: str
    days: Annotated[int, Field(ge=1, le=30)]


def add(a: float, b: float) -> str:
    """Add two numbers."""
    return f"{a:g} + {b:g} = {a + b:g}"


def _model() -> Any:
    address, options = OPTIONS["address"], {"api_key": OPTIONS["key"], "max_retries": OPTIONS.get("maxRetries", 0)}
    if OPTIONS["surface"] == "messages":
        provider = AnthropicProvider(anthropic_client=AsyncAnthropic(base_url=address, **options))
        return AnthropicModel(OPTIONS["model"], provider=provider)
    kinds = {"responses": OpenAIResponsesModel, "chat": OpenAIChatModel}
    client = AsyncOpenAI(base_url=f"{address}/v1", **options)
    return kinds[OPTIONS["surface"]](OPTIONS["model"], provider=OpenAIProvider(openai_client=client))


def _outcome(result: Any) -> dict[str, Any]:
    parts = [part for message in result.all_messages() for part in message.parts]
    return {"said": result.output, "calls": [part.content for part in parts if isinstance(part, ToolReturnPart)]}


async def _run() -> dict[str, Any]:
    prompt = OPTIONS["prompt"]
    agent = Agent(_model(), tools=[add], name="adder")
    match OPTIONS["scenario"]:
        case "agent":
            return _outcome(await agent.run(prompt))
        case "stream":
            async with agent.run_stream(prompt) as streamed:
                said = await streamed.get_output()
                parts = [part for message in streamed.all_messages() for part in message.parts]
            return {"said": said, "calls": [part.content for part in parts if isinstance(part, ToolReturnPart)]}
        case "object":
            return {"object": (await Agent(_model(), output_type=Trip).run(prompt)).output.model_dump()}
        case _:
            picture = BinaryContent(data=base64.b64decode(OPTIONS["picture"]), media_type="image/png")
            return _outcome(await Agent(_model()).run([prompt, picture]))


try:
    print(json.dumps({"found": asyncio.run(_run())}))
except ModelHTTPError as why:
    print(json.dumps({"error": {"kind": type(why).__name__, "message": str(why), "status": why.status_code}}))
