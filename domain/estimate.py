"""The upper bound of a request's tokens. `domain/holds.py` makes of it what an attempt holds.

Never below what the provider will bill. Byte-level tokenizers never make more tokens than a text has UTF-8 bytes; what
the provider adds around each message, tool and image is bounded by constants.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import ChatRequest, File, FilePart, ImagePart, ImageUrl, Part, TextPart
from domain.canonical.embeddings import EmbeddingsRequest
from domain.image_size import TOKENS_PER_IMAGE, Image, image_of, largest
from domain.models import DEFAULT_CONTEXT_WINDOW, longest_answer
from domain.money import NanoUsd
from domain.pdf_size import UNKNOWN, pdf_of, pdf_tokens

TOKENS_PER_REQUEST = 64
"""The provider's own prompt around a conversation: turn markers, the start of the answer."""
TOKENS_PER_MESSAGE = 16
TOKENS_WITH_TOOLS = 1_024
"""Added by providers if a request has tools (Anthropic documents up to 530 tokens)."""
TOKENS_PER_TOOL = 64
LEAST_UNSET_CAP = 256
"""An output cap that the caller did not set is lowered to no less than this."""
LEAST_SET_CAP = 1_024
"""One that the caller set is lowered to no less than this, or not at all if it is less."""
LEAST_THINKING_BUDGET = 1_024
"""A thinking budget is lowered with the cap that it is a part of: Anthropic refuses a smaller one, and one that is not
less than the cap."""
LEAST_ANSWER = 1_024
"""What a lowered thinking budget leaves of the cap for the answer."""
MAX_HOLD = NanoUsd(10_000_000_000_000_000)
"""Ten million dollars: no request holds more, so that the sums of many stay within PostgreSQL's bigint."""
HIDDEN, PLAIN, REWRITTEN = 0, 1, 2
"""How the model is shown a text: not at all, as it stands, or in JSON that the provider may write anew."""
BYTES_PER_ESCAPE = 3
"""A character that is not ASCII may be written as its number: six bytes for one of two bytes, at most."""


class InputBound(Struct, frozen=True, kw_only=True):
    """The most input tokens of a canonical request."""

    tokens: int
    media_tokens: int = 0
    """The part that images and files are."""
    item_tokens: tuple[int, ...] | None = None
    """The part that each message is. None: something of it has an address, or no length that can be told."""


def input_bound(request: ChatRequest | EmbeddingsRequest) -> int:
    """The most input tokens that the provider can count. `passthrough/inspect.py` bounds passthrough requests."""
    return bound_input(request).tokens


def bound_input(
    request: ChatRequest | EmbeddingsRequest,
    image_tokens: Callable[[Image], int] = largest,
    context_window: int | None = None,
) -> InputBound:
    """As `input_bound`, with its parts. `image_tokens`: the most tokens of an image."""
    if isinstance(request, EmbeddingsRequest):
        texts = [request.input] if isinstance(request.input, str) else request.input
        return InputBound(tokens=sum(utf8_length(text) for text in texts) + TOKENS_PER_REQUEST)
    media = _Media(image_tokens, context_window or DEFAULT_CONTEXT_WINDOW)
    items = tuple(TOKENS_PER_MESSAGE + _message_bound(message, media) for message in request.messages)
    tokens = TOKENS_PER_REQUEST + sum(items) - media.file_tokens_counted_twice
    if request.tools:
        tokens += TOKENS_WITH_TOOLS + TOKENS_PER_TOOL * len(request.tools) + json_tokens(request.tools, REWRITTEN)
    if request.response_format is not None:
        tokens += TOKENS_WITH_TOOLS + json_tokens(request.response_format, REWRITTEN)
    return InputBound(
        tokens=tokens,
        media_tokens=media.image_tokens + media.file_tokens,
        item_tokens=items if media.is_self_contained else None,
    )


def output_bound(request: ChatRequest | EmbeddingsRequest, upstream_model: str, context_window: int | None) -> int:
    """The most tokens that the provider will count as written."""
    if isinstance(request, EmbeddingsRequest):
        return 0
    return request.max_tokens or longest_answer(upstream_model, context_window)


def least_cap(cap: int | None, thinking_budget: int | None) -> int:
    """The least that an output cap may be lowered to. `cap`: the caller's own, None if it set none."""
    least = LEAST_UNSET_CAP if cap is None else LEAST_SET_CAP
    if thinking_budget is not None:
        least = max(least, LEAST_THINKING_BUDGET + LEAST_ANSWER)
    return least if cap is None else min(cap, least)


def thinking_within(cap: int, thinking_budget: int) -> int:
    """The thinking budget that an output cap has room for: the caller's own, or less."""
    return min(thinking_budget, max(LEAST_THINKING_BUDGET, cap - LEAST_ANSWER))


def utf8_length(text: str | None) -> int:
    """Count the bytes of a text in UTF-8; None has none. Does not encode a text that is ASCII."""
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def text_tokens(text: str | None, form: int) -> int:
    """The most tokens of a text in one of the three forms; None has none."""
    if not text or not form:
        return 0
    return utf8_length(text) if form == PLAIN else rewritten_length(msgspec.json.encode(text))


def json_tokens(value: Any, form: int) -> int:
    """The most tokens of the caller's own data, as JSON, in one of the three forms."""
    if not form:
        return 0
    encoded = msgspec.json.encode(value)
    return len(encoded) if form == PLAIN else rewritten_length(encoded)


def rewritten_length(json: bytes) -> int:
    """The most tokens of JSON that the provider writes anew, and not all providers say how.

    One for each byte, as for any text; one more for each separator, which may get a space or a longer sign; and
    characters that are not ASCII as their numbers. Real schemas have a third of it: see `bench/tokens.py`.
    """
    separators = json.count(b",") + json.count(b":")
    escaped = 0 if json.isascii() else len(json) - len(json.decode(errors="ignore").encode("ascii", "ignore"))
    return len(json) + separators + (BYTES_PER_ESCAPE - 1) * escaped


class _Media:
    """Counts the images and files of a request."""

    def __init__(self, tokens_of: Callable[[Image], int], context_window: int) -> None:
        self._tokens_of = tokens_of
        self._context_window = context_window
        self.image_tokens = 0
        self.file_tokens = 0
        """Of files whose length cannot be told, all together: they fit into the model's window, or are refused."""
        self.file_tokens_counted_twice = 0
        self.is_self_contained = True

    def image(self, image: ImageUrl) -> int:
        tokens = self._tokens_of(image_of(image.url, image.detail))
        self.image_tokens += tokens
        self.is_self_contained &= image.url.startswith("data:")
        return tokens

    def file(self, file: File) -> int:
        if file.url.startswith("data:text/"):
            return utf8_length(file.url)
        page = self._tokens_of(Image(width=0, height=0))
        tokens = pdf_tokens(pdf_of(file.url) if page < TOKENS_PER_IMAGE else UNKNOWN, page, self._context_window)
        self.file_tokens_counted_twice += max(0, self.file_tokens + tokens - self._context_window)
        self.file_tokens = min(self._context_window, self.file_tokens + tokens)
        self.is_self_contained &= file.url.startswith("data:")
        return tokens + utf8_length(file.filename)


def _message_bound(message: Any, media: _Media) -> int:
    content = message.content
    tokens = utf8_length(message.name) if getattr(message, "name", None) else 0
    if isinstance(content, str):
        tokens += utf8_length(content)
    elif content is not None:
        for part in content:
            tokens += _part_bound(part, media)
    for thought in getattr(message, "reasoning", None) or ():
        tokens += TOKENS_PER_MESSAGE + sum(
            utf8_length(text) for text in (thought.text, thought.signature, thought.data)
        )
    if getattr(message, "tool_calls", None):
        tokens += json_tokens(message.tool_calls, REWRITTEN)
    if getattr(message, "tool_call_id", None):
        tokens += utf8_length(message.tool_call_id)
    return tokens


def _part_bound(part: Part, media: _Media) -> int:
    match part:
        case TextPart():
            return utf8_length(part.text)
        case ImagePart():
            return media.image(part.image_url)
        case FilePart():
            return media.file(part.file)
