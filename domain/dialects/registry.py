"""Every codec, the dialect of every kind of provider, and the choice between passing through and translating."""

from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial

from msgspec import Struct

from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.anthropic.token_count import AnthropicTokenCount
from domain.dialects.codec import Codec, Dialect
from domain.dialects.native.codec import NativeChat, NativeEmbeddings
from domain.dialects.openai.codec import OpenAiChat, OpenAiEmbeddings, OpenAiResponses
from domain.dialects.openai.completions import OpenAiCompletions, OpenAiModerations
from domain.dialects.openai.stored_responses import OpenAiCompact, OpenAiStoredResponses
from domain.dialects.openai.token_count import OpenAiTokenCount
from domain.dialects.passthrough.inspect import PassthroughRequest
from domain.dialects.request_body import CanonicalRequest, RequestBody
from domain.dialects.translation import Passthrough, Translated, Translation
from domain.errors import InvalidRequest
from domain.events import Operation
from domain.image_size import Image, largest
from domain.routing import ANTHROPIC, ECHO, OPENAI, Kind, Target

NATIVE: Dialect = "native"


class ProviderKind(Struct, frozen=True, kw_only=True):
    """The dialect of a kind of provider."""

    dialect: Dialect
    passes_through: bool = True
    """Requests of its own dialect are passed through. False: they are translated like all others."""


class DialectRegistry:
    """The codecs by dialect and operation, and the kinds of providers. A gateway has one; it never changes."""

    def __init__(self, codecs: Iterable[Codec], kinds: Mapping[Kind, ProviderKind]) -> None:
        listed = tuple(codecs)
        self._codecs = {(codec.dialect, codec.operation): codec for codec in listed}
        assert len(self._codecs) == len(listed), "an operation of a dialect has one codec"
        self._kinds = dict(kinds)
        self._provider_codecs = {
            (kind, codec.operation): codec
            for kind, provider in self._kinds.items()
            for codec in listed
            if codec.dialect == provider.dialect and (provider.passes_through or _is_translated_to(codec))
        }
        self._translated = {codec.operation: codec.translated_operation or codec.operation for codec in listed}

    def with_dialect(self, codecs: Iterable[Codec], kinds: Mapping[Kind, ProviderKind]) -> "DialectRegistry":
        """A registry that also has these."""
        return DialectRegistry((*self._codecs.values(), *codecs), {**self._kinds, **kinds})

    @property
    def kinds(self) -> Container[Kind]:
        """The kinds of providers. Each has a built-in provider of its name."""
        return self._kinds

    def codec(self, dialect: Dialect, operation: Operation) -> Codec:
        """The codec of a surface's call."""
        return self._codecs[dialect, operation]

    def adapt(self, body: RequestBody, target: Target, operation: Operation) -> tuple[RequestBody, tuple[str, ...]]:
        """Make a request one that its provider can be asked; returns it, and the names of the fields that it lost.

        What is passed through stays as it is: that is between its client and its provider. But for an output cap that
        the dialect's own vendor would refuse, which many clients send to a model that is newer than they are.

        Raises:
            InvalidRequest: names the field and what is allowed.

        """
        is_translated = isinstance(body, CanonicalRequest)
        asked = self._translated[operation] if is_translated else operation
        codec = self._provider_codecs.get((target.kind, asked))
        if codec is None:
            able = sorted(kind for kind in self._kinds if (kind, asked) in self._provider_codecs)
            raise InvalidRequest(
                f"`model` {target.model!r} does no {operation}; models of providers of these kinds do: "
                f"{', '.join(able)}",
                field="model",
            )
        if isinstance(body, PassthroughRequest) and target.base_url is None:
            return body.within_limits(target.upstream_model), ()
        if not isinstance(body, CanonicalRequest):
            return body, ()
        fuller = self._fuller(codec, body, target) if operation == asked else None
        adapted = (fuller or codec).adapt_request(body.request, target.upstream_model)
        made = CanonicalRequest(
            adapted.request,
            adapted.calls,
            is_charged=body.is_charged,
            asked_operation=fuller.operation if fuller is not None else None,
        )
        return made, adapted.dropped

    def _fuller(self, codec: Codec, body: CanonicalRequest, target: Target) -> Codec | None:
        """The codec of the fuller operation, if the request needs that and the kind of provider has it."""
        if codec.fuller_operation is None:
            return None
        fuller = self._provider_codecs.get((target.kind, codec.fuller_operation))
        if fuller is None or not codec.needs_fuller(
            body.request, target.upstream_model, is_builtin=target.base_url is None
        ):
            return None
        return fuller

    def image_tokens(self, target: Target, operation: Operation) -> Callable[[Image], int]:
        """The most tokens that the provider of a target counts an image as."""
        vendor = self._vendor(target, operation)
        return largest if vendor is None else partial(vendor.image_tokens, upstream_model=target.upstream_model)

    def has_cache_marks(self, target: Target, operation: Operation) -> bool:
        """True if the provider of a target caches, and charges for that, only where a request says so."""
        vendor = self._vendor(target, operation)
        return vendor is not None and vendor.has_cache_marks

    def _vendor(self, target: Target, operation: Operation) -> Codec | None:
        """The codec of a target's provider; None if it is one by configuration, whose models may count otherwise."""
        asked = (operation, self._translated[operation]) if target.base_url is None else ()
        for name in asked:
            if (target.kind, name) in self._provider_codecs:
                return self._provider_codecs[target.kind, name]
        return None

    def choose(self, client: Codec, kind: Kind, *, has_call: bool = True, fits: bool = True) -> Translation:
        """The way of a request from a client of this codec to a provider of this kind.

        `has_call`: False for a provider by configuration that is known not to have the codec's call. Then the one that
        the codec can be translated to is asked for, if there is such a one. `fits`: see `passes_through`.
        """
        provider = self._kinds[kind]
        has_call = fits and (has_call or client.translated_operation is None)
        if provider.passes_through and provider.dialect == client.dialect and has_call:
            return Passthrough(client)
        return Translated(client, self._provider_codecs.get((kind, self._translated[client.operation])))

    def passes_through(self, request: PassthroughRequest, target: Target, *, has_fuller: bool = True) -> bool:
        """False if a request that could be passed through would be refused so, and is served if it is translated.

        `has_fuller`: False for a provider by configuration that is known not to have the codec's fuller operation.
        """
        codec = request.codec
        if codec.fuller_operation is None or not has_fuller:
            return True
        if (target.kind, codec.fuller_operation) not in self._provider_codecs:
            return True
        return codec.fits(request.editable.value, target.upstream_model, is_builtin=target.base_url is None)

    def chosen(
        self,
        dialect: Dialect,
        operation: Operation,
        kind: Kind,
        *,
        is_passthrough: bool,
        asked: Operation | None = None,
    ) -> Translation:
        """The way that was chosen when a request was admitted, for its job.

        `dialect` is that of the client's stream. A response in one piece is written elsewhere: it may be any. `asked`:
        see `RequestBody.asked_operation`.
        """
        if is_passthrough:
            return Passthrough(self._provider_codecs[kind, operation])
        provider = self._provider_codecs[kind, asked or self._translated[operation]]
        return Translated(self._codecs.get((dialect, operation), provider), provider)


def _is_translated_to(codec: Codec) -> bool:
    """True if canonical requests can be written in it."""
    return codec.translates and codec.translated_operation is None


CODECS = (
    OpenAiChat(),
    OpenAiEmbeddings(),
    OpenAiResponses(),
    OpenAiStoredResponses(),
    OpenAiCompact(),
    OpenAiTokenCount(),
    OpenAiCompletions(),
    OpenAiModerations(),
    AnthropicMessages(),
    AnthropicTokenCount(),
    NativeChat(),
    NativeEmbeddings(),
)
PROVIDER_KINDS: dict[Kind, ProviderKind] = {
    OPENAI: ProviderKind(dialect="openai"),
    ANTHROPIC: ProviderKind(dialect="anthropic"),
    ECHO: ProviderKind(dialect="openai", passes_through=False),
}
DIALECTS = DialectRegistry(CODECS, PROVIDER_KINDS)
"""The registry of a gateway as it comes."""
