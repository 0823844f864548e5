"""Ask a model through the gateway, with OpenAI's SDK and with Anthropic's. Only the base URL and the key are new."""

import os

from anthropic import Anthropic
from openai import OpenAI

URL = os.environ.get("AI_GATEWAY_URL", "http://127.0.0.1:3007")
KEY = os.environ["AI_GATEWAY_KEY"]
MODEL = os.environ.get("AI_GATEWAY_MODEL")  # "echo" needs no provider key
MESSAGES = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]

openai = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
completion = openai.chat.completions.create(model=MODEL or "gpt-5.4-mini", messages=MESSAGES)
print("OpenAI's SDK:", completion.choices[0].message.content)
print(f"cost: {completion.usage.cost:.8f} US dollars")

# Every model works with either SDK: this request goes to Anthropic, or to any other model that you name here.
anthropic = Anthropic(base_url=URL, api_key=KEY)
message = anthropic.messages.create(model=MODEL or "claude-sonnet-5-5", max_tokens=1000, messages=MESSAGES)
print("Anthropic's SDK:", "".join(block.text for block in message.content if block.type == "text"))
print(f"cost: {message.usage.cost:.8f} US dollars")
