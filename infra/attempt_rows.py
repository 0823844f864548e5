"""What the ledger says of a request, for those that have its row in `inflight` and not its job."""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.idempotency import Idempotency
from domain.request_identity import RequestIdentity, Said

IDENTITY_COLUMNS = (
    "request_id, project_id, key_id, operation, model, provider, upstream_model, metadata::text AS metadata, "
    "idempotency::text AS idempotency, said::text AS said"
)

_NOTHING = Said()
_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder().decode
_decode_idempotency = msgspec.json.Decoder(Idempotency).decode
_decode_said = msgspec.json.Decoder(Said).decode


def identity_of(row: Mapping[str, Any]) -> RequestIdentity:
    """Read a request's identity from a row with `IDENTITY_COLUMNS`: the events of who writes it say what its worker's
    would.
    """
    metadata, known_by, said = row["metadata"], row["idempotency"], row["said"]
    told = _decode_said(said) if said is not None else _NOTHING
    return RequestIdentity(
        request_id=row["request_id"],
        project_id=row["project_id"],
        key_id=row["key_id"],
        operation=row["operation"],
        model=row["model"],
        provider=row["provider"],
        upstream_model=row["upstream_model"],
        metadata=_decode_metadata(metadata) if metadata is not None else None,
        origin=told.origin,
        dropped=told.dropped,
        asked_as=told.asked_as,
        idempotency=_decode_idempotency(known_by) if known_by is not None else None,
    )


def said_of(identity: RequestIdentity) -> str | None:
    """Return the JSON of the column `said`."""
    said = identity.said
    return _encode(said).decode() if said is not None else None
