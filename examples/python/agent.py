"""Run an agent on a key of its own: with a budget, for one model only, and gone when the agent is done.

The key in AI_GATEWAY_KEY must be an admin key. The agent never sees it.
"""

import os
import sys

import httpx2  # comes with the SDK
from anthropic import Anthropic, APIStatusError

URL = os.environ.get("AI_GATEWAY_URL", "http://127.0.0.1:3007")
KEY = os.environ["AI_GATEWAY_KEY"]
MODEL = os.environ.get("AI_GATEWAY_MODEL", "claude-sonnet-5-5")
BUDGET = float(os.environ.get("AGENT_BUDGET", "0.50"))  # US dollars
TASK = sys.argv[1] if len(sys.argv) > 1 else "In which month from October to December did we spend most?"
MAX_STEPS = 10

EXPENSES = {"October": "1,200 dollars", "November": "950 dollars", "December": "1,800 dollars"}
TOOL = {
    "name": "get_expenses",
    "description": "What the company spent in a month.",
    "input_schema": {"type": "object", "properties": {"month": {"type": "string"}}, "required": ["month"]},
}

api = httpx2.Client(base_url=f"{URL}/api/v1", headers={"Authorization": f"Bearer {KEY}"})
limits = {"dailyBudget": BUDGET, "models": [MODEL], "rateLimit": 60, "concurrencyLimit": 2}
key = api.post("/projects/api-keys", json={"name": "agent"} | limits).raise_for_status().json()["data"]
agent = Anthropic(base_url=URL, api_key=key["apiKey"])

messages = [{"role": "user", "content": TASK}]
for _ in range(MAX_STEPS):
    try:
        message = agent.messages.create(model=MODEL, max_tokens=1000, messages=messages, tools=[TOOL])
    except APIStatusError as error:
        if error.status_code != 402:
            raise
        print("stopped by its budget:", error.body["error"]["message"])
        break
    calls = [block for block in message.content if block.type == "tool_use"]
    if not calls:
        print("".join(block.text for block in message.content if block.type == "text"))
        break
    messages.append({"role": "assistant", "content": message.content})
    results = []
    for call in calls:
        result = EXPENSES.get(call.input["month"], "unknown")
        print(f"{call.name}({call.input['month']}) = {result}")
        results.append({"type": "tool_result", "tool_use_id": call.id, "content": result})
    messages.append({"role": "user", "content": results})

spent = api.get("/usage/costs", params={"keyId": key["id"]}).json()["data"]["totalCost"]
print(f"the agent spent {spent:.6f} of {BUDGET:.6f} US dollars")
api.delete(f"/projects/api-keys/{key['id']}").raise_for_status()
