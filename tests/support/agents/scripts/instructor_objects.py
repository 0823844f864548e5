"""Instructor: an object by each of its ways. Prints the outcome as JSON."""

import json
import sys
from typing import Annotated, Any

import instructor
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel, Field

OPTIONS = json.loads(sys.argv[1])
WAYS = {
    "tool": instructor.Mode.TOOLS,
    "object": instructor.Mode.JSON_SCHEMA,
    "json": instructor.Mode.JSON,
    "picture": instructor.Mode.TOOLS,
}


class Trip(BaseModel):
    """A journey."""

    city: str
    days: Annotated[int, Field(ge=1, le=30)]


def _run() -> dict[str, Any]:
    key, retries = OPTIONS["key"], OPTIONS.get("maxRetries", 0)
    content: Any = OPTIONS["prompt"]
    if OPTIONS["scenario"] == "picture":
        content = [content, instructor.Image.from_base64(f"data:image/png;base64,{OPTIONS['picture']}")]
    asked = {"model": OPTIONS["model"], "messages": [{"role": "user", "content": content}], "response_model": Trip}
    way = WAYS[OPTIONS["scenario"]]
    if OPTIONS["surface"] == "messages":
        ways = {instructor.Mode.TOOLS: instructor.Mode.ANTHROPIC_TOOLS}
        anthropic = Anthropic(base_url=OPTIONS["address"], api_key=key, max_retries=retries)
        client: Any = instructor.from_anthropic(anthropic, mode=ways.get(way, instructor.Mode.ANTHROPIC_JSON))
        return {"object": client.chat.completions.create(**asked, max_retries=0, max_tokens=500).model_dump()}
    openai = OpenAI(base_url=f"{OPTIONS['address']}/v1", api_key=key, max_retries=retries)
    client = instructor.from_openai(openai, mode=way)
    return {"object": client.chat.completions.create(**asked, max_retries=0).model_dump()}


try:
    print(json.dumps({"found": _run()}))
except Exception as why:  # noqa: BLE001 (whatever it is, the test looks at it)
    print(json.dumps({"error": {"kind": type(why).__name__, "message": str(why)[:2000], "status": None}}))
