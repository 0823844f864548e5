"""Remembers how requests were read that use the cache. Those that hit it have mostly come before, byte for byte.

Of a request's content only its digest is kept.
"""

import hashlib
import threading

from msgspec.structs import replace

from domain.dialects.codec import Codec
from domain.dialects.passthrough.inspect import PassthroughRequest, read_passthrough
from infra.newest import Newest

MAX_REMEMBERED = 512
MAX_REMEMBERED_BYTES = 8 * 1024
"""Of a request. What is kept of one usually takes 2 kB, and at most ten times its bytes (one of tools only): 40 MB."""


class RepeatedRequests:
    """Reads requests for one process. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: Newest[tuple[bytes, Codec, bool], PassthroughRequest] = Newest(MAX_REMEMBERED)

    def read(self, body: bytes, codec: Codec, *, finds_models: bool) -> PassthroughRequest:
        """Read a request that uses the cache, as `read_passthrough`.

        That takes 30 µs and more, to find it again 5.
        """
        if len(body) > MAX_REMEMBERED_BYTES:
            return read_passthrough(body, codec, is_cached=True, finds_models=finds_models)
        place = (hashlib.sha256(body).digest(), codec, finds_models)
        with self._lock:
            known = self._read.get(place)
        if known is not None:
            return _with_body(known, body)
        read = read_passthrough(body, codec, is_cached=True, finds_models=finds_models)
        with self._lock:
            self._read[place] = _with_body(read, b"")
        return read


def _with_body(request: PassthroughRequest, body: bytes) -> PassthroughRequest:
    return replace(request, editable=replace(request.editable, body=body))
