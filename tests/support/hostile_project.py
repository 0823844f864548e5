"""A project in which everything that callers and providers may write is markup, for the pages that show it."""

import re
from typing import Any
from urllib.parse import quote

import httpx2

from tests.provider.running import RunningProvider
from tests.support.gateway import Gateway

CANARY = "x-hostile"
"""An element's name: a page that has such an element took a text for markup."""
HOSTILE = f"\"'></script></textarea><{CANARY}>{{{{7*7}}}}"
"""Breaks out of an attribute, an element or a template, if one of them lets it."""
ROUTE = "hostile"
"""Its name has no room for markup; its targets have."""
TIMEOUT_S = 30.0
PLACE = re.compile(r"{(\w+)(?::str)?}")


class HostileProject:
    """The project, with its ids and keys. Its `mine` is the test provider under a name of its own."""

    def __init__(self, gateway: Gateway, upstream: RunningProvider) -> None:
        self._client = httpx2.Client(base_url=f"{gateway.address}/api/v1", timeout=TIMEOUT_S)
        created = self._call(gateway.master_key, "POST", "/projects", {"name": f"{HOSTILE} project"})
        self.project_id, self.key = created["id"], created["apiKey"]
        self._call(
            self.key,
            "POST",
            "/projects/providers",
            {
                "name": "mine",
                "kind": "openai",
                "baseUrl": upstream.openai_base_url,
                "apiKey": "sk-mine-7777",
                "models": [f"{HOSTILE} model"],
            },
        )
        self._call(self.key, "POST", "/routes", {"name": ROUTE, "groups": [[f"mine/{HOSTILE} model"], ["echo"]]})
        issued = self._call(
            self.key, "POST", "/projects/api-keys", {"name": f"{HOSTILE} key", "role": "member", "dailyBudget": 0.00001}
        )
        self.key_id, self.member_key = issued["id"], issued["apiKey"]
        said = f"[[say={quote(f'{HOSTILE} answer', safe='')}]]"
        self.answered = self._chat(self.key, said, 200)
        self.unpriced = self._chat(self.key, said, 200, model=f"mine/{HOSTILE} model")
        self.failed = self._chat(self.key, f"[[status=400]] [[message={quote(f'{HOSTILE} error', safe='')}]]", 400)
        self.refused = self._chat(self.member_key, "more than the budget has", 402)
        self._client.close()

    def address(self, path: str) -> str:
        """Return the address of a page, with this project's ids in their places."""
        ids = {
            "key_id": self.key_id,
            "project_id": self.project_id,
            "request_id": self.answered,
            "owner": self.project_id,
            "provider": "mine",
            "name": ROUTE,
            "failed": self.failed,
            "refused": self.refused,
            "metadata": quote(f"{HOSTILE} name", safe=""),
        }
        return PLACE.sub(lambda place: ids[place[1]], path)

    def _chat(self, key: str, prompt: str, expected: int, **fields: Any) -> str:
        """Send a chat. Return the request's id."""
        body = {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": prompt}],
            "metadata": {f"{HOSTILE} name": f"{HOSTILE} value"},
        }
        answer = self._send(key, "POST", "/completions/chat", body | fields)
        assert answer.status_code == expected, answer.text
        return str(answer.headers["x-request-id"])

    def _call(self, key: str, method: str, path: str, body: Any) -> dict[str, Any]:
        answer = self._send(key, method, path, body)
        assert answer.is_success, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def _send(self, key: str, method: str, path: str, body: Any) -> httpx2.Response:
        return self._client.request(method, path, json=body, headers={"authorization": f"Bearer {key}"})
