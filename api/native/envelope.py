"""The envelope of every native answer: `{"success": true, "data": …}`, or the failure."""

from typing import Any, Generic, Literal, TypeVar

from litestar import Response
from msgspec import UNSET, Struct, UnsetType

from domain.json_numbers import encode, encode_with_raw

Data = TypeVar("Data")


class Success(Struct, Generic[Data], kw_only=True):
    """The answer of a request that succeeded."""

    success: Literal[True] = True
    data: Data


class Failure(Struct, kw_only=True, rename="camel"):
    """Why a request failed."""

    code: str
    message: str
    request_id: str
    details: dict[str, Any] | UnsetType = UNSET


class FailureEnvelope(Struct, kw_only=True):
    """Every failure's answer."""

    success: bool
    error: Failure


class NativeResponse(Response[Any]):
    """Writes decimals as JSON numbers. Litestar would write them as text."""

    def render(self, content: Any, *_: Any, **__: Any) -> bytes:
        """The body; bytes are sent as they are."""
        return content if isinstance(content, bytes) else encode(content)


class RawResponse(NativeResponse):
    """Writes what has JSON of others in it, which keeps its bytes."""

    def render(self, content: Any, *_: Any, **__: Any) -> bytes:
        """The body."""
        return encode_with_raw(content)
