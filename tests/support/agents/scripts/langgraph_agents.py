"""LangGraph with LangChain's models: an agent with a tool, an object, and a picture. Prints the outcome as JSON."""

import json
import sys
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

OPTIONS = json.loads(sys.argv[1])


class Trip(BaseModel):
    """A journey."""

    city: str
    days: Annotated[int, Field(ge=1, le=30)]


def add(a: float, b: float) -> str:
    """Add two numbers."""
    return f"{a:g} + {b:g} = {a + b:g}"


def _model() -> Any:
    address, options = OPTIONS["address"], {"model": OPTIONS["model"], "max_retries": OPTIONS.get("maxRetries", 0)}
    if OPTIONS["surface"] == "messages":
        return ChatAnthropic(base_url=address, api_key=OPTIONS["key"], **options)
    responses = {"use_responses_api": OPTIONS["surface"] == "responses"}
    return ChatOpenAI(base_url=f"{address}/v1", api_key=OPTIONS["key"], **options, **responses)


def _outcome(state: Any) -> dict[str, Any]:
    messages = state["messages"]
    return {"said": messages[-1].text, "calls": [one.content for one in messages if one.type == "tool"]}


def _run() -> dict[str, Any]:
    prompt = OPTIONS["prompt"]
    given = {"messages": [HumanMessage(prompt, name="a_person")]}
    agent = create_agent(_model(), tools=[add], name="adder")
    match OPTIONS["scenario"]:
        case "agent":
            return _outcome(agent.invoke(given))
        case "stream":
            *_, last = agent.stream(given, stream_mode="values")
            return _outcome(last)
        case "object":
            found: Any = _model().with_structured_output(Trip, method="json_schema").invoke(prompt)
            return {"object": found.model_dump()}
        case _:
            image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{OPTIONS['picture']}"}}
            return {"said": _model().invoke([HumanMessage([{"type": "text", "text": prompt}, image])]).text}


try:
    print(json.dumps({"found": _run()}))
except Exception as why:
    status = getattr(why, "status_code", None)
    if status is None:
        raise
    print(json.dumps({"error": {"kind": type(why).__name__, "message": str(why), "status": status}}))
