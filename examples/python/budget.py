"""Give a key a budget of its own. A request that does not fit is refused before a provider is called.

The key in AI_GATEWAY_KEY must be an admin key; the first key of a project is one.
"""

import os

import httpx2  # comes with the SDK
from openai import OpenAI, RateLimitError

URL = os.environ.get("AI_GATEWAY_URL", "http://127.0.0.1:3007")
KEY = os.environ["AI_GATEWAY_KEY"]

api = httpx2.Client(base_url=f"{URL}/api/v1", headers={"Authorization": f"Bearer {KEY}"})
issued = api.post("/projects/api-keys", json={"name": "a tenth of a cent a day", "dailyBudget": 0.001})
key = issued.raise_for_status().json()["data"]
print(f"issued {key['id']}: {key['dailyBudget']} US dollars a day")

# The model `echo` is built in and has a price, so this works without a provider key.
client = OpenAI(base_url=f"{URL}/v1", api_key=key["apiKey"])
messages = [{"role": "user", "content": "Hello!"}]
completion = client.chat.completions.create(model="echo", messages=messages, max_tokens=100)
print(f"100 tokens fit: {completion.choices[0].message.content!r} cost {completion.usage.cost:.6f} US dollars")
try:
    client.chat.completions.create(model="echo", messages=messages, max_tokens=1000)
except RateLimitError as refusal:
    print(f"1000 tokens do not fit: {refusal.status_code} {refusal.code}")

left = api.get("/usage/budget", headers={"Authorization": f"Bearer {key['apiKey']}"}).json()["data"]["daily"]
print(f"spent {left['spent']:.6f} of {left['limit']:.6f} US dollars, {left['remaining']:.6f} remain")
api.delete(f"/projects/api-keys/{key['id']}").raise_for_status()
