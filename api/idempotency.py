"""Reads what a request is known by to its retries: the header `Idempotency-Key`, or the key's setting.

What becomes of a retry is decided by `admit` and `api/replays.py`.
"""

import re
from datetime import datetime

from api.authentication import Caller
from api.requests import HttpRequest, services_of
from domain.errors import InvalidRequest
from domain.idempotency import DERIVED_TTL_S, Idempotency, derived_key, fingerprint_of, sent_key
from infra.offload import offload

HEADER = "idempotency-key"
RETRY_HEADER = "x-stainless-retry-count"
"""In which the vendors' SDKs say how often they have sent the request before."""
MAX_CHARS = 255
_VISIBLE = re.compile(r"[!-~]{1,255}")
_NEVER_SENT = frozenset({"", "0"})


async def idempotency_of(
    request: HttpRequest, caller: Caller, body: bytes, received_at: datetime
) -> Idempotency | None:
    """Return what a request is known by; None: it has no key, and its API key derives none.

    Raises:
        InvalidRequest: the header is given twice, or is not 1 to 255 visible ASCII characters.

    """
    headers = request.headers
    is_sent = HEADER in headers
    if not is_sent and caller.settings.idempotency == "off":
        return None
    scope = request.scope
    fingerprint = await offload(len(body), fingerprint_of, scope["path"], scope["query_string"], body)
    received_at_ms = int(received_at.timestamp() * 1000)
    if is_sent:
        return Idempotency(
            key=sent_key(caller.project_id, caller.key_id, _text(request)),
            fingerprint=fingerprint,
            received_at_ms=received_at_ms,
            ttl_s=services_of(request).settings.idempotency_ttl_s,
        )
    return Idempotency(
        key=derived_key(caller.project_id, caller.key_id, fingerprint),
        fingerprint=fingerprint,
        received_at_ms=received_at_ms,
        ttl_s=DERIVED_TTL_S,
        derived="first" if headers.get(RETRY_HEADER, "").strip() in _NEVER_SENT else "retry",
    )


def _text(request: HttpRequest) -> str:
    given: list[str] = request.headers.getall(HEADER)
    if len(given) > 1:
        raise InvalidRequest("`Idempotency-Key` may be given once", field="Idempotency-Key")
    if not _VISIBLE.fullmatch(given[0]):
        raise InvalidRequest(
            f"`Idempotency-Key` must be 1 to {MAX_CHARS} visible ASCII characters, without spaces",
            field="Idempotency-Key",
        )
    return given[0]
