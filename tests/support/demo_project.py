"""A project as a team might have it after a morning, for the images of the README."""

from typing import Any

import httpx2

from tests.support.gateway import Gateway

TIMEOUT_S = 30.0
_CALLS = (
    ("assistant", "gpt-4o-mini", "[[tokens=1840/420]] Where is my parcel?", 200),
    ("assistant", "gpt-4o-mini", "[[tokens=1840/420]] Where is my parcel?", 200),
    ("assistant", "claude-3.5-sonnet", "[[tokens=5210/760]] Summarise this thread.", 200),
    ("assistant", "gpt-4o", "[[tokens=3100/512]] Draft an answer to the complaint.", 200),
    ("search", "gpt-4o-mini", "[[tokens=900/64]] Rewrite this query.", 200),
    ("search", "gpt-4o-mini", "[[tokens=912/71]] Rewrite that query.", 200),
    ("assistant", "gpt-4-turbo", "[[tokens=7400/940]] Compare the two contracts.", 200),
    ("search", "claude-3-haiku", "[[tokens=2048/120]] Label these tickets.", 200),
    ("search", "gpt-4o-mini", "[[status=400]] [[message=the model does not take this]] A mistake.", 400),
    ("nightly evaluation", "gpt-4o", "[[tokens=2100/900]] Grade this answer.", 200),
    ("nightly evaluation", "gpt-4o", "Grade the other answer. " * 400, 402),
)
"""By key: the model, the words, and the status of the answer."""
_KEYS: dict[str, dict[str, Any]] = {
    "assistant": {"dailyBudget": 0.5, "monthlyBudget": 10},
    "search": {"dailyBudget": 0.05},
    "nightly evaluation": {"dailyBudget": 0.03},
}


class DemoProject:
    """The project, with its admin key."""

    def __init__(self, gateway: Gateway) -> None:
        self._client = httpx2.Client(base_url=f"{gateway.address}/api/v1", timeout=TIMEOUT_S)
        self.key: str = self._call(gateway.master_key, "POST", "/projects", {"name": "Support desk"})["apiKey"]
        self._call(self.key, "PATCH", "/projects/me", {"monthlyBudget": 25, "dailyBudget": 1})
        keys = {
            name: self._call(self.key, "POST", "/projects/api-keys", {"name": name} | limits)["apiKey"]
            for name, limits in _KEYS.items()
        }
        ids = [self._chat(keys[name], *call) for name, *call in _CALLS]
        self.explained = ids[2]
        """A request whose charge is worth a look."""
        self._client.close()

    def _chat(self, key: str, model: str, prompt: str, expected: int) -> str:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "maxTokens": 1_000,
            "metadata": {"team": "support"},
        }
        answer = self._send(key, "POST", "/completions/chat", body)
        assert answer.status_code == expected, answer.text
        return str(answer.headers["x-request-id"])

    def _call(self, key: str, method: str, path: str, body: Any) -> dict[str, Any]:
        answer = self._send(key, method, path, body)
        assert answer.is_success, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def _send(self, key: str, method: str, path: str, body: Any) -> httpx2.Response:
        return self._client.request(method, path, json=body, headers={"authorization": f"Bearer {key}"})
