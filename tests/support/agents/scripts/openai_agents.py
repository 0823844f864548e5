"""OpenAI's Agents SDK: an agent with a tool, an object, and a picture. Prints the outcome as JSON."""

import asyncio
import json
import sys
from typing import Annotated, Any

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import APIError, AsyncOpenAI
from pydantic import BaseModel, Field

OPTIONS = json.loads(sys.argv[1])


@function_tool
def add(a: float, b: float) -> str:
    """Add two numbers."""
    return f"{a:g} + {b:g} = {a + b:g}"


class Trip(BaseModel):
    """A journey."""

    city: str
    days: Annotated[int, Field(ge=1, le=30)]


def _outcome(result: Any) -> dict[str, Any]:
    calls = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    return {"said": result.final_output, "calls": calls, "tokens": result.context_wrapper.usage.output_tokens}


async def _run() -> dict[str, Any]:
    client = AsyncOpenAI(
        base_url=f"{OPTIONS['address']}/v1", api_key=OPTIONS["key"], max_retries=OPTIONS.get("maxRetries", 0)
    )
    kinds = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
    model = kinds[OPTIONS["surface"]](model=OPTIONS["model"], openai_client=client)
    prompt = OPTIONS["prompt"]
    match OPTIONS["scenario"]:
        case "agent":
            return _outcome(await Runner.run(Agent(name="adder", model=model, tools=[add]), prompt))
        case "stream":
            streamed = Runner.run_streamed(Agent(name="adder", model=model, tools=[add]), prompt)
            async for _ in streamed.stream_events():
                pass
            return _outcome(streamed)
        case "object":
            found = await Runner.run(Agent(name="traveller", model=model, output_type=Trip), prompt)
            return {"object": found.final_output.model_dump()}
        case _:
            image = {
                "type": "input_image",
                "image_url": f"data:image/png;base64,{OPTIONS['picture']}",
                "detail": "auto",
            }
            content = [{"type": "input_text", "text": prompt}, image]
            return _outcome(await Runner.run(Agent(name="seer", model=model), [{"role": "user", "content": content}]))


set_tracing_disabled(disabled=True)
try:
    print(json.dumps({"found": asyncio.run(_run())}))
except APIError as why:
    error = {"kind": type(why).__name__, "message": str(why), "status": getattr(why, "status_code", None)}
    print(json.dumps({"error": error}))
