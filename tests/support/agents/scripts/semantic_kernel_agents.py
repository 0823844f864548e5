"""Semantic Kernel: an agent with a tool, an object, and a picture. Prints the outcome as JSON."""

import asyncio
import base64
import json
import sys
from typing import Annotated, Any

from openai import AsyncOpenAI
from pydantic import BaseModel, Field
from semantic_kernel.agents import ChatCompletionAgent, ChatHistoryAgentThread
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import ChatMessageContent, FunctionResultContent, ImageContent, TextContent
from semantic_kernel.exceptions import ServiceResponseException
from semantic_kernel.functions import KernelArguments, kernel_function

OPTIONS = json.loads(sys.argv[1])


class Trip(BaseModel):
    """A journey."""

    city: str
    days: Annotated[int, Field(ge=1, le=30)]


class Adding:
    """The tools."""

    @kernel_function(name="add", description="Add two numbers")
    def add(self, a: float, b: float) -> str:
        """Add two numbers."""
        return f"{a:g} + {b:g} = {a + b:g}"


def _agent(**options: Any) -> ChatCompletionAgent:
    client = AsyncOpenAI(
        base_url=f"{OPTIONS['address']}/v1", api_key=OPTIONS["key"], max_retries=OPTIONS.get("maxRetries", 0)
    )
    service = OpenAIChatCompletion(ai_model_id=OPTIONS["model"], async_client=client)
    return ChatCompletionAgent(service=service, name="adder", **options)


async def _results(thread: ChatHistoryAgentThread) -> list[str]:
    messages = [message async for message in thread.get_messages()]
    return [str(item.result) for one in messages for item in one.items if isinstance(item, FunctionResultContent)]


async def _run() -> dict[str, Any]:
    prompt = OPTIONS["prompt"]
    thread = ChatHistoryAgentThread()
    match OPTIONS["scenario"]:
        case "agent":
            answer = await _agent(plugins=[Adding()]).get_response(messages=prompt, thread=thread)
            return {"said": str(answer.content), "calls": await _results(thread)}
        case "stream":
            pieces = [
                str(one) async for one in _agent(plugins=[Adding()]).invoke_stream(messages=prompt, thread=thread)
            ]
            return {"said": "".join(pieces), "calls": await _results(thread)}
        case "object":
            settings = OpenAIChatPromptExecutionSettings(response_format=Trip)
            answer = await _agent(arguments=KernelArguments(settings=settings)).get_response(messages=prompt)
            return {"object": json.loads(str(answer.content))}
        case _:
            picture = ImageContent(
                data=base64.b64decode(OPTIONS["picture"]), mime_type="image/png", data_format="base64"
            )
            message = ChatMessageContent(role="user", name="a_person", items=[TextContent(text=prompt), picture])
            return {"said": str((await _agent().get_response(messages=message)).content)}


try:
    print(json.dumps({"found": asyncio.run(_run())}))
except ServiceResponseException as why:
    cause = why.__cause__
    print(
        json.dumps(
            {
                "error": {
                    "kind": type(cause).__name__,
                    "message": str(cause),
                    "status": getattr(cause, "status_code", None),
                }
            }
        )
    )
