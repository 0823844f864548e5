"""AutoGen: an agent with a tool, an object, and a picture. Prints the outcome as JSON."""

import asyncio
import base64
import io
import json
import sys
from typing import Annotated, Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import MultiModalMessage, ToolCallExecutionEvent
from autogen_core import Image
from autogen_ext.models.openai import OpenAIChatCompletionClient
from openai import APIError
from PIL import Image as Pictures
from pydantic import BaseModel, Field

OPTIONS = json.loads(sys.argv[1])


class Trip(BaseModel):
    """A journey."""

    city: str
    days: Annotated[int, Field(ge=1, le=30)]


async def add(a: float, b: float) -> str:
    """Add two numbers."""
    return f"{a:g} + {b:g} = {a + b:g}"


def _agent(**options: Any) -> AssistantAgent:
    client = OpenAIChatCompletionClient(
        model=OPTIONS["model"],
        base_url=f"{OPTIONS['address']}/v1",
        api_key=OPTIONS["key"],
        max_retries=OPTIONS.get("maxRetries", 0),
        model_info={
            "vision": True,
            "function_calling": True,
            "json_output": True,
            "structured_output": True,
            "family": "unknown",
        },
    )
    return AssistantAgent("adder", model_client=client, **options)


def _outcome(result: Any) -> dict[str, Any]:
    events = [message for message in result.messages if isinstance(message, ToolCallExecutionEvent)]
    return {"said": result.messages[-1].content, "calls": [one.content for event in events for one in event.content]}


async def _run() -> dict[str, Any]:
    prompt = OPTIONS["prompt"]
    working = {"tools": [add], "max_tool_iterations": 8}
    match OPTIONS["scenario"]:
        case "agent":
            return _outcome(await _agent(**working).run(task=prompt))
        case "stream":
            *_, last = [one async for one in _agent(model_client_stream=True, **working).run_stream(task=prompt)]
            return _outcome(last)
        case "object":
            found: Any = (await _agent(output_content_type=Trip).run(task=prompt)).messages[-1]
            return {"object": found.content.model_dump()}
        case _:
            picture = Image(Pictures.open(io.BytesIO(base64.b64decode(OPTIONS["picture"]))))
            return _outcome(await _agent().run(task=MultiModalMessage(content=[prompt, picture], source="a_person")))


try:
    print(json.dumps({"found": asyncio.run(_run())}))
except APIError as why:
    error = {"kind": type(why).__name__, "message": str(why), "status": getattr(why, "status_code", None)}
    print(json.dumps({"error": error}))
