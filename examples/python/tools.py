"""Let the model call a function of yours, and give it the result. The same code works with every vendor's models."""

import json
import os
import sys

from openai import OpenAI

URL = os.environ.get("AI_GATEWAY_URL", "http://127.0.0.1:3007")
KEY = os.environ["AI_GATEWAY_KEY"]
MODEL = os.environ.get("AI_GATEWAY_MODEL", "claude-sonnet-5-5")
QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is the weather in Paris?"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def get_weather(city: str) -> str:
    """A real one would ask a weather service."""
    return f"18 degrees and sunny in {city}"


client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
messages = [{"role": "user", "content": QUESTION}]
answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER]).choices[0].message

if answer.tool_calls:
    messages.append(answer.model_dump(include={"role", "content", "tool_calls"}))
    for call in answer.tool_calls:
        result = get_weather(**json.loads(call.function.arguments))
        print(f"{call.function.name}({call.function.arguments}) = {result}")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER]).choices[0].message

print(answer.content)
