"""A request about an object that is stored at a provider: it has no body, costs nothing, and names the object."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from msgspec import Struct

from domain.dialects.passthrough.named_models import NamedModel
from domain.dialects.request_body import LoweredRequest, TokenBound
from domain.image_size import Image, largest


class ObjectRequest(Struct, frozen=True, kw_only=True):
    """A `RequestBody` that is empty."""

    model: str
    """Of the request that made the object, as its caller named it."""
    response_id: str

    is_passthrough: ClassVar[bool] = True
    calls: ClassVar[int] = 1
    asked_operation: ClassVar[None] = None
    provider_object_ref: ClassVar[None] = None
    item_ids: ClassVar[tuple[str, ...]] = ()
    named_models: ClassVar[tuple[NamedModel, ...]] = ()
    output_cap: ClassVar[None] = None

    def with_native_defaults(self, upstream_model: str) -> "ObjectRequest":
        """See `RequestBody`."""
        return self

    def payload(self, upstream_model: str) -> bytes:
        """See `RequestBody`: nothing."""
        return b""

    def token_bound(
        self,
        upstream_model: str,
        context_window: int | None,
        *,
        is_builtin: bool,
        headers: Mapping[str, str] | None = None,
        image_tokens: Callable[[Image], int] = largest,
    ) -> TokenBound:
        """See `RequestBody`: nothing is counted."""
        return TokenBound(input_tokens=0, output_tokens=0, least_output_tokens=0, unbounded_field=None)

    def with_tool_calls(self, calls: int) -> "ObjectRequest":
        """See `RequestBody`: it has no tools."""
        return self

    def cap_name(self, upstream_model: str) -> str:
        """See `RequestBody`."""
        raise AssertionError("it has no output")

    def with_output_cap(self, cap: int, upstream_model: str, *, is_builtin: bool = True) -> LoweredRequest:
        """See `RequestBody`."""
        raise AssertionError("it has no output")

    def cache_body(self, payload: bytes, *, headers: Mapping[str, str] | None, query: str | None) -> bytes:
        """See `RequestBody`."""
        raise AssertionError("it is not cached")
