"""Add a provider without a line of code in the gateway: any endpoint that has OpenAI's or Anthropic's API.

The key in AI_GATEWAY_KEY must be an admin key. The provider belongs to its project.
"""

import os

import httpx2  # comes with the SDK
from openai import OpenAI

URL = os.environ.get("AI_GATEWAY_URL", "http://127.0.0.1:3007")
KEY = os.environ["AI_GATEWAY_KEY"]
GROQ_URL = os.environ.get("GROQ_BASE_URL", "https://api.groq.com/openai/v1")
GROQ_KEY = os.environ["GROQ_API_KEY"]

api = httpx2.Client(base_url=f"{URL}/api/v1", headers={"Authorization": f"Bearer {KEY}"})
if "groq" not in [provider["name"] for provider in api.get("/projects/providers").json()["data"]]:
    groq = {"name": "groq", "kind": "openai", "baseUrl": GROQ_URL, "apiKey": GROQ_KEY}
    added = api.post("/projects/providers", json=groq).raise_for_status().json()["data"]
    print(f"added {added['name']} at {added['baseUrl']}")

# Its name and a slash stand before the name of the model.
client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
completion = client.chat.completions.create(
    model="groq/openai/gpt-oss-20b",
    messages=[{"role": "user", "content": "What is the capital of France? Answer with one word."}],
)
print(completion.choices[0].message.content)
