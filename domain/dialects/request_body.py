"""A request's body on its way to its provider: canonical, or in the dialect that its client and its provider share."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from domain.cache_key import canonical_body
from domain.canonical.chat import DEFAULT_TEMPERATURE, ChatRequest
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.passthrough.named_models import NamedModel
from domain.estimate import bound_input, least_cap, output_bound, thinking_within
from domain.events import Operation
from domain.hosted_tools import NO_TOOLS, HostedTools
from domain.image_size import Image, largest
from domain.models import DEFAULT_CONTEXT_WINDOW, model_traits, widest_window

_encode = msgspec.json.Encoder().encode


class TokenBound(Struct, frozen=True, kw_only=True):
    """The most tokens that a request can be counted as, and what may cost something beside them."""

    input_tokens: int
    output_tokens: int
    """Over all choices."""
    least_output_tokens: int
    """The fewest that the output may be capped at, where a budget has no room for more; over all choices."""
    choices: int = 1
    media_tokens: int = 0
    """The part of the input that images and files are."""
    writes_5m: bool = True
    writes_1h: bool = True
    """The provider may write the input to its cache for so long, and charge more for that."""
    item_tokens: tuple[int, ...] | None = None
    """The part of the input that each item of the conversation is. None: the provider counts more than the body has,
    or less, so that `domain/prompt_prefix.py` can tell nothing from an equal beginning."""
    reading_tokens: int | None = None
    """The most that the model reads at a time of the request itself; None: it may be any length."""
    unbounded_field: str | None
    """The field, if any, whose cost has no bound. A provider by configuration may charge for fields of its own."""
    predicted_tokens: int = 0
    """Those of a predicted answer, which may be charged as output beside the answer."""
    summary_reading_tokens: int = 0
    """The most that the model reads to summarize the context, as the request asks; 0: it does not come to that."""
    summary_tokens: int = 0
    """The most that it writes then."""
    audio_tokens: int = 0
    """Those of the input that may be audio."""
    writes_audio: bool = False
    tools: HostedTools = NO_TOOLS
    terms: dict[str, str] = {}
    """The terms that it asks for, other than the standard ones."""
    context_window: int = DEFAULT_CONTEXT_WINDOW
    """The most that the model reads at a time."""


class LoweredRequest(Struct, frozen=True, kw_only=True):
    """A request whose output cap was lowered."""

    body: "RequestBody"
    payload: bytes
    cap: int
    """Of each choice."""
    output_tokens: int
    """Over all choices."""


class RequestBody(Protocol):
    """A body in either form."""

    is_passthrough: ClassVar[bool]
    """The flag of its job."""

    @property
    def calls(self) -> int:
        """How often the provider is called for it, each time for one of its answers."""
        ...

    @property
    def asked_operation(self) -> Operation | None:
        """The operation that its provider is asked for; None: the one that its codec is translated to."""
        ...

    @property
    def response_id(self) -> str | None:
        """An earlier response that the request continues."""
        ...

    @property
    def provider_object_ref(self) -> str | None:
        """The field, if any, that names something which was made at the provider, not through the gateway."""
        ...

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items of earlier responses that it names."""
        ...

    @property
    def model(self) -> str:
        """The model as the caller named it."""
        ...

    @property
    def named_models(self) -> tuple[NamedModel, ...]:
        """The places where its provider may read the names of other models, if that was asked."""
        ...

    @property
    def output_cap(self) -> int | None:
        """The most tokens of output that the caller asks for; None: it sets no cap."""
        ...

    def with_native_defaults(self, upstream_model: str) -> "RequestBody":
        """The body with the native API's defaults for fields that the caller left out."""
        ...

    def payload(self, upstream_model: str) -> bytes:
        """The body as JSON, for the job."""
        ...

    def token_bound(
        self,
        upstream_model: str,
        context_window: int | None,
        *,
        is_builtin: bool,
        headers: Mapping[str, str] | None = None,
        image_tokens: Callable[[Image], int] = largest,
    ) -> TokenBound:
        """The most that it can be counted as. `is_builtin`: its provider is none by configuration. `headers`: those
        that it is forwarded with, which may ask for a longer window. `image_tokens`: the most of an image, for a body
        that does not know its provider's dialect.
        """
        ...

    def with_tool_calls(self, calls: int) -> "RequestBody":
        """The request with no more calls than this of the tools that its provider runs."""
        ...

    def cap_name(self, upstream_model: str) -> str:
        """The field by which the caller limits the output."""
        ...

    def with_output_cap(self, cap: int, upstream_model: str, *, is_builtin: bool = True) -> LoweredRequest:
        """The request with no more output than `cap` tokens over all choices, at least `least_output_tokens`."""
        ...

    def cache_body(self, payload: bytes, *, headers: Mapping[str, str] | None, query: str | None) -> bytes:
        """The bytes for the cache key: equal for requests that get the same response."""
        ...


class CanonicalRequest(Struct, frozen=True):
    """A body that is translated for its provider."""

    request: ChatRequest | EmbeddingsRequest
    calls: int = 1
    """Each of them reads the whole input."""
    is_charged: bool = True
    """False: providers charge nothing for it."""
    asked_operation: Operation | None = None
    """See `RequestBody`."""

    is_passthrough: ClassVar[bool] = False
    response_id: ClassVar[None] = None
    provider_object_ref: ClassVar[None] = None
    item_ids: ClassVar[tuple[str, ...]] = ()
    named_models: ClassVar[tuple[NamedModel, ...]] = ()

    @property
    def model(self) -> str:
        """See `RequestBody`."""
        return self.request.model

    @property
    def output_cap(self) -> int | None:
        """See `RequestBody`."""
        return self.request.max_tokens if isinstance(self.request, ChatRequest) else None

    def with_native_defaults(self, upstream_model: str) -> "CanonicalRequest":
        """See `RequestBody`: a temperature, if the model accepts one.

        A default is never the reason for a refusal: none is added beside `topP`, which some models refuse together.
        """
        request = self.request
        if (
            isinstance(request, ChatRequest)
            and request.temperature is None
            and request.top_p is None
            and model_traits(upstream_model).takes_temperature
        ):
            return replace(self, request=replace(request, temperature=DEFAULT_TEMPERATURE))
        return self

    @property
    def _choices(self) -> int:
        return (self.request.n or 1) if isinstance(self.request, ChatRequest) else 1

    def payload(self, upstream_model: str) -> bytes:
        """See `RequestBody`: the members of a schema keep their order, since models answer in it."""
        return _encode(self.request)

    def with_tool_calls(self, calls: int) -> "CanonicalRequest":
        """See `RequestBody`: it has no such tools."""
        return self

    def token_bound(
        self,
        upstream_model: str,
        context_window: int | None,
        *,
        is_builtin: bool,
        headers: Mapping[str, str] | None = None,
        image_tokens: Callable[[Image], int] = largest,
    ) -> TokenBound:
        """See `RequestBody`: every canonical field has a bound."""
        if not self.is_charged:
            return TokenBound(input_tokens=0, output_tokens=0, least_output_tokens=0, unbounded_field=None)
        parts = bound_input(self.request, image_tokens, widest_window(upstream_model, context_window))
        choices = self._choices
        output_tokens = choices * output_bound(self.request, upstream_model, context_window)
        thinking_budget = self.request.thinking_budget if isinstance(self.request, ChatRequest) else None
        return TokenBound(
            input_tokens=self.calls * parts.tokens,
            output_tokens=output_tokens,
            least_output_tokens=min(output_tokens, choices * least_cap(self.output_cap, thinking_budget)),
            choices=choices,
            media_tokens=self.calls * parts.media_tokens,
            item_tokens=parts.item_tokens if self.calls == 1 else None,
            reading_tokens=parts.tokens,
            unbounded_field=None,
        )

    def cap_name(self, upstream_model: str) -> str:
        """See `RequestBody`."""
        return "max_tokens"

    def with_output_cap(self, cap: int, upstream_model: str, *, is_builtin: bool = True) -> LoweredRequest:
        """See `RequestBody`."""
        assert isinstance(self.request, ChatRequest), "embeddings have no output"
        choices = self._choices
        each = cap // choices
        budget = self.request.thinking_budget
        budget = None if budget is None else thinking_within(each, budget)
        request = replace(self.request, max_tokens=each, thinking_budget=budget)
        body = replace(self, request=request)
        return LoweredRequest(body=body, payload=_encode(request), cap=each, output_tokens=choices * each)

    def cache_body(self, payload: bytes, *, headers: Mapping[str, str] | None, query: str | None) -> bytes:
        """See `RequestBody`: a stream has the same entry as a response in one piece."""
        return canonical_body(self.request)
