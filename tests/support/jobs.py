"""Builders of jobs and request identities for tests."""

from typing import Any

from msgspec.structs import fields as fields_of

from domain.request_identity import RequestIdentity
from infra.jobs import Job

_IDENTITY_FIELDS = {field.name for field in fields_of(RequestIdentity)}


def make_identity(**fields: Any) -> RequestIdentity:
    """Return the identity of a chat with the echo model. `fields` override the defaults."""
    echo: dict[str, Any] = {
        "request_id": "req",
        "project_id": "prj",
        "key_id": "key",
        "operation": "chat",
        "model": "echo",
        "provider": "echo",
        "upstream_model": "echo",
    }
    return RequestIdentity(**echo | fields)


def make_job(**fields: Any) -> Job:
    """Return a job for a chat with the echo model. `fields` are fields of the job or of its identity."""
    of_identity = {name: fields.pop(name) for name in _IDENTITY_FIELDS & fields.keys()}
    echo: dict[str, Any] = {
        "identity": make_identity(**of_identity),
        "kind": "echo",
        "price": None,
        "body": b"{}",
        "reply_to": "reply.tests.1",
        "admitted_at_ms": 0,
        "deadline_ms": 0,
    }
    return Job(**echo | fields)
