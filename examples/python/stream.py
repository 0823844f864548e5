"""Print an answer while the model writes it. The last chunk has the usage and the cost."""

import os

from openai import OpenAI

URL = os.environ.get("AI_GATEWAY_URL", "http://127.0.0.1:3007")
KEY = os.environ["AI_GATEWAY_KEY"]
MODEL = os.environ.get("AI_GATEWAY_MODEL", "claude-sonnet-5-5")  # "echo" needs no provider key

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
stream = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "Count from one to five, in words."}],
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    if chunk.usage:
        print(f"\ncost: {chunk.usage.cost:.8f} US dollars")
