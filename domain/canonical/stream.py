"""The canonical stream: a chat answer in pieces, spelled as the native API spells it.

Between a provider's stream and a client's, of whatever dialect, stands a sequence of `ChatChunk`. Tokens and cost are
not part of it: who ends a stream knows them.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from domain.canonical.chat import (
    AnswerMessage,
    ChatResponse,
    Choice,
    FinishReason,
    ReasoningBlock,
    answered_call,
    thoughts_by_place,
)
from domain.tokens import AnswerUsage

MAX_REPLAY_PIECE_CHARS = 1_024
"""The most text of one chunk of a replay."""
MAX_DETAIL_MEMBERS = 256
"""Of a block of thinking, that are kept."""


class _Piece(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of a chunk. Absent fields are left out of its JSON."""


class FunctionDelta(_Piece, frozen=True, kw_only=True):
    """A piece of a function call: the name comes once, `arguments` in pieces."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(_Piece, frozen=True, kw_only=True):
    """A piece of a tool call. `id` and `type` come with the first piece; `index` tells parallel calls apart."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta
    extra_content: dict[str, Any] | None = None
    """See `ToolCall`. It may come with any piece."""


class ReasoningDelta(_Piece, frozen=True, kw_only=True):
    """A piece of a block of thinking; `index` tells the blocks apart. `text` and `signature` come in pieces."""

    index: int
    text: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    detail: dict[str, Any] | None = None
    after_calls: int = 0


class Delta(_Piece, frozen=True, kw_only=True):
    """The part of a message that a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    is_refusal: bool = False
    """The content is a piece of a refusal. See `AnswerMessage`."""
    tool_calls: list[ToolCallDelta] | None = None
    reasoning: list[ReasoningDelta] | None = None


class ChunkChoice(Struct, frozen=True, kw_only=True, rename="camel"):
    """A piece of one of the answers; `finish_reason` comes with the last."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None = None


class ChatChunk(Struct, frozen=True, kw_only=True, rename="camel"):
    """A piece of a chat answer."""

    id: str
    model: str
    """The model as the caller named it."""
    choices: list[ChunkChoice]


class _Call:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.extra_content: dict[str, Any] | UnsetType = UNSET


class ReasoningPieces:
    """Puts a block of thinking together, of pieces or whole blocks. What it costs grows with their bytes alone."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.signatures: list[str] = []
        self.data: str | None = None
        self.id: str | None = None
        self.detail: dict[str, Any] | None = None
        self.after_calls = 0

    def add(self, piece: ReasoningDelta | ReasoningBlock) -> None:
        """Take the next piece. A later one's data, id and members of the detail replace an earlier one's."""
        if piece.text is not None:
            self.texts.append(piece.text)
        if piece.signature is not None:
            self.signatures.append(piece.signature)
        self.data = piece.data or self.data
        self.id = piece.id or self.id
        self.after_calls = max(self.after_calls, piece.after_calls)
        if piece.detail is not None:
            self._add_detail(piece.detail)

    def _add_detail(self, detail: dict[str, Any]) -> None:
        if self.detail is None:
            self.detail = {}
        for name, value in detail.items():
            if name in self.detail or len(self.detail) < MAX_DETAIL_MEMBERS:
                self.detail[name] = value

    def block(self) -> ReasoningBlock:
        """The block of all pieces so far."""
        text, signature = ("".join(pieces) if pieces else None for pieces in (self.texts, self.signatures))
        return ReasoningBlock(
            text=text,
            signature=signature,
            data=self.data,
            id=self.id,
            detail=self.detail,
            after_calls=self.after_calls,
        )


class _Message:
    def __init__(self) -> None:
        self.texts: list[str] | None = None
        self.calls: dict[int, _Call] = {}
        self.reasoning: dict[int, ReasoningPieces] = {}
        self.is_refusal = False
        self.finish_reason: FinishReason | None = None

    def add(self, choice: ChunkChoice) -> None:
        if choice.delta.content is not None:
            self.is_refusal = choice.delta.is_refusal if not self.texts else self.is_refusal
            self.texts = self.texts or []
            self.texts.append(choice.delta.content)
        for thought in choice.delta.reasoning or ():
            self.reasoning.setdefault(thought.index, ReasoningPieces()).add(thought)
        for piece in choice.delta.tool_calls or ():
            call = self.calls.setdefault(piece.index, _Call())
            call.id = piece.id or call.id
            call.name = piece.function.name or call.name
            call.arguments.append(piece.function.arguments or "")
            call.extra_content = piece.extra_content or call.extra_content
        self.finish_reason = choice.finish_reason or self.finish_reason

    def choice(self, index: int) -> Choice:
        calls = [
            answered_call(call.id, call.name, "".join(call.arguments), call.extra_content)
            for _, call in sorted(self.calls.items())
        ]
        content = "".join(self.texts) if self.texts is not None else None
        reasoning = [thought.block() for _, thought in sorted(self.reasoning.items())]
        message = AnswerMessage(
            content=content,
            tool_calls=calls or UNSET,
            reasoning=reasoning or UNSET,
            is_refusal=self.is_refusal or UNSET,
        )
        return Choice(index=index, message=message, finish_reason=self.finish_reason)


class ChatAssembler:
    """Puts a stream together again: the answer that it amounts to."""

    def __init__(self, *, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._id = ""
        self._messages: dict[int, _Message] = {}

    def add(self, chunk: ChatChunk) -> None:
        """Take the next chunk."""
        self._id = self._id or chunk.id
        for choice in chunk.choices:
            self._messages.setdefault(choice.index, _Message()).add(choice)

    def answer(self, usage: AnswerUsage) -> ChatResponse:
        """The answer of all chunks so far; its choices and their calls are in the order of their indexes."""
        return ChatResponse(
            id=self._id,
            model=self._model,
            provider=self._provider,
            choices=[message.choice(index) for index, message in sorted(self._messages.items())],
            usage=usage,
        )


def replay_chat(answer: ChatResponse) -> Iterator[ChatChunk]:
    """A finished answer as a stream: for each choice its role, thinking and text in pieces, its calls, its finish."""
    for choice in answer.choices:
        for delta in _deltas(choice.message):
            yield ChatChunk(id=answer.id, model=answer.model, choices=[ChunkChoice(index=choice.index, delta=delta)])
        finish = ChunkChoice(index=choice.index, delta=Delta(), finish_reason=choice.finish_reason)
        yield ChatChunk(id=answer.id, model=answer.model, choices=[finish])


def pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most `MAX_REPLAY_PIECE_CHARS`; at least one, were it empty."""
    for start in range(0, max(1, len(text)), MAX_REPLAY_PIECE_CHARS):
        yield text[start : start + MAX_REPLAY_PIECE_CHARS]


def _deltas(message: AnswerMessage) -> Iterator[Delta]:
    yield Delta(role="assistant")
    calls = message.tool_calls or []
    places = thoughts_by_place(message.reasoning or (), len(calls))
    yield from _thoughts(places[0])
    if message.content is not None:
        for piece in pieces(message.content):
            yield Delta(content=piece, is_refusal=message.is_refusal is True)
    for index, call in enumerate(calls):
        yield from _thoughts(places[index] if index else ())
        begun, *more = pieces(call.function.arguments)
        function = FunctionDelta(name=call.function.name, arguments=begun)
        extra_content = call.extra_content or None
        yield Delta(
            tool_calls=[
                ToolCallDelta(index=index, id=call.id, type="function", function=function, extra_content=extra_content)
            ]
        )
        for piece in more:
            yield Delta(tool_calls=[ToolCallDelta(index=index, function=FunctionDelta(arguments=piece))])


def _thoughts(thoughts: Iterable[tuple[int, ReasoningBlock]]) -> Iterator[Delta]:
    for index, thought in thoughts:
        place = thought.after_calls
        for piece in pieces(thought.text) if thought.text is not None else ():
            yield Delta(reasoning=[ReasoningDelta(index=index, text=piece, after_calls=place)])
        if thought.signature or thought.data or thought.id or thought.detail is not None:
            end = ReasoningDelta(
                index=index,
                signature=thought.signature,
                data=thought.data,
                id=thought.id,
                detail=thought.detail,
                after_calls=place,
            )
            yield Delta(reasoning=[end])
