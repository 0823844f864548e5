"""The identity of a request: its ids, model and provider. The job, the ledger, the call and every event carry it."""

from typing import Any

from msgspec import Struct

from domain.call_origin import Origin
from domain.events import Operation
from domain.idempotency import Idempotency


class Said(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the ledger keeps of a request's identity beside its columns, for the events of those that have no job."""

    origin: Origin | None = None
    dropped: tuple[str, ...] = ()
    asked_as: str | None = None


class RequestIdentity(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request at one target, for as long as it lives. Made when it is planned; nothing changes it."""

    request_id: str
    project_id: str
    key_id: str
    operation: Operation
    model: str
    """The name as the caller wrote it, or, of a request with several targets, as its target's is written."""
    provider: str
    upstream_model: str
    """The name that the provider is called with."""
    metadata: dict[str, Any] | None = None
    origin: Origin | None = None
    dropped: tuple[str, ...] = ()
    """The names of the fields that its translation left out."""
    asked_as: str | None = None
    """What the caller named, where `model` is another: a route, or the model before its fallbacks."""
    idempotency: Idempotency | None = None
    """What its retries know it by."""

    @property
    def said(self) -> Said | None:
        """What the ledger keeps beside its columns; None: nothing."""
        if self.origin is None and self.asked_as is None and not self.dropped:
            return None
        return Said(origin=self.origin, dropped=self.dropped, asked_as=self.asked_as)

    def event_fields(self) -> dict[str, Any]:
        """The fields that every event of the request has."""
        return {
            "request_id": self.request_id,
            "key_id": self.key_id,
            "operation": self.operation,
            "model": self.model,
            "provider": self.provider,
            "metadata": self.metadata,
            "origin": self.origin,
            "dropped": self.dropped,
            "asked_as": self.asked_as,
            "idempotency": self.idempotency,
        }

    def attempt_fields(self, attempt: int) -> dict[str, Any]:
        """The fields that every event of one of its attempts has."""
        return {**self.event_fields(), "attempt": attempt, "upstream_model": self.upstream_model}
