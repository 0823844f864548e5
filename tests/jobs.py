"""Jobs as they are published, for what works on them."""

from typing import Any

from infra.jobs import Job


def make_job(**fields: Any) -> Job:
    """A chat with the echo; `fields` are what the test is about."""
    echo: dict[str, Any] = {
        "request_id": "req",
        "project_id": "prj",
        "key_id": "key",
        "operation": "chat",
        "model": "echo",
        "provider": "echo",
        "kind": "echo",
        "upstream_model": "echo",
        "price": None,
        "body": b"{}",
        "reply_to": "reply.tests.1",
        "admitted_at_ms": 0,
        "deadline_ms": 0,
    }
    return Job(**echo | fields)
