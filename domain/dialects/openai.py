"""OpenAI's chat completions and embeddings. https://platform.openai.com/docs/api-reference/chat/create"""

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from domain.canonical.chat import (
    AnswerMessage,
    AnswerUsage,
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    FinishReason,
    FunctionCall,
    ImagePart,
    Message,
    NamedToolChoice,
    ResponseFormat,
    Tool,
    ToolCall,
    ToolMessage,
)
from domain.canonical.embeddings import MAX_INPUTS, EmbeddingsRequest
from domain.dialects.provider_response import ProviderResponse, UnreadableResponse, answer_usage, part_of
from domain.dialects.streamed import decoded
from domain.routing import wants_max_completion_tokens
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenCount, TokenUsage

OTHER_ARRAYS = 16
"""Beside the vectors, in an answer of `POST /embeddings`: `data`, and what is to come."""


def check_chat(_request: ChatRequest, _upstream_model: str) -> None:
    """Everything that the canonical request can say can be said here."""


def chat_to_wire(request: ChatRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /chat/completions`. Fields that the caller left out are left out."""
    cap = "max_completion_tokens" if wants_max_completion_tokens(upstream_model) else "max_tokens"
    wire = {
        "model": upstream_model,
        "messages": [_message(message) for message in request.messages],
        "temperature": request.temperature,
        cap: request.max_tokens,
        "top_p": request.top_p,
        "stop": request.stop,
        "seed": request.seed,
        "user": request.user,
        "tools": [_tool(tool) for tool in request.tools] if request.tools else None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": _response_format(request.response_format),
        "reasoning_effort": request.reasoning_effort,
    }
    return {name: value for name, value in wire.items() if value is not None}


def embeddings_to_wire(request: EmbeddingsRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /embeddings`; floats are asked for, whatever the client's library would prefer."""
    wire = {
        "model": upstream_model,
        "input": request.input,
        "dimensions": request.dimensions,
        "user": request.user,
        "encoding_format": "float",
    }
    return {name: value for name, value in wire.items() if value is not None}


def _message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.__struct_config__.tag, "content": _content(message.content)}
    if isinstance(message, ToolMessage):
        wire["tool_call_id"] = message.tool_call_id
    elif message.name is not None:
        wire["name"] = message.name
    if isinstance(message, AssistantMessage) and message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    return wire


def _content(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content
    return [
        {
            "type": "image_url",
            "image_url": {"url": part.image_url.url}
            | ({"detail": part.image_url.detail} if part.image_url.detail else {}),
        }
        if isinstance(part, ImagePart)
        else {"type": "text", "text": part.text}
        for part in content
    ]


def _tool(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": _present(msgspec.structs.asdict(tool.function))}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, NamedToolChoice):
        return {"type": "function", "function": {"name": choice.function.name}}
    return choice


def _response_format(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.json_schema is None:
        return {"type": wanted.type} if wanted is not None else None
    return {"type": wanted.type, "json_schema": _present(msgspec.structs.asdict(wanted.json_schema))}


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


class _PromptDetails(Struct, frozen=True):
    cached_tokens: TokenCount | None = None
    cache_write_tokens: TokenCount | None = None
    audio_tokens: TokenCount | None = None


class _CompletionDetails(Struct, frozen=True):
    reasoning_tokens: TokenCount | None = None
    audio_tokens: TokenCount | None = None


class WireUsage(Struct, frozen=True, kw_only=True):
    """Tokens as the vendor counts them."""

    prompt_tokens: TokenCount
    completion_tokens: TokenCount = 0
    total_tokens: TokenCount | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Function(Struct, frozen=True):
    name: str
    arguments: str


class _ToolCall(Struct, frozen=True):
    id: str
    function: _Function


class _Message(Struct, frozen=True):
    content: Any = None
    """See `text_of`."""
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct, frozen=True):
    message: _Message
    index: int = 0
    finish_reason: str | None = None


class _Chat(Struct, frozen=True):
    id: str
    choices: list[_Choice]
    usage: WireUsage
    model: str = ""


class _Vector(Struct, frozen=True):
    index: int
    embedding: msgspec.Raw
    """Numbers as the provider wrote them: as objects they would take several times the memory."""


class _CanonicalEmbeddings(Struct, frozen=True, kw_only=True, rename="camel"):
    """`EmbeddingsResponse` with vectors that are JSON already."""

    model: str
    provider: str
    embeddings: list[_Vector]
    usage: AnswerUsage


class _Embeddings(Struct, frozen=True):
    data: list[_Vector]
    usage: WireUsage
    model: str = ""


_decode_chat = msgspec.json.Decoder(_Chat).decode
_encode = msgspec.json.Encoder().encode
_decode_numbers = msgspec.json.Decoder(list[float]).decode
_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode

FINISH_REASONS: dict[str | None, FinishReason | None] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    None: None,
}


def chat_from_wire(body: bytes, request: ChatRequest, provider: str) -> ProviderResponse:
    """Read an answer of `POST /chat/completions`.

    Raises:
        UnreadableResponse: it is none, or has no usage.

    """
    chat = decoded(_decode_chat, body)
    usage = usage_from_wire(chat.usage)
    response_id = sanitize_identifier(chat.id)
    choices = [
        Choice(index=choice.index, message=_answer(choice.message), finish_reason=_finish(choice))
        for choice in chat.choices
    ]
    return ProviderResponse(
        answer=ChatResponse(
            id=response_id, model=request.model, provider=provider, choices=choices, usage=answer_usage(usage)
        ),
        usage=usage,
        answered_by=sanitize_identifier(chat.model),
        response_id=response_id,
        finish_reason=choices[0].finish_reason if choices else None,
    )


def embeddings_from_wire(body: bytes, request: EmbeddingsRequest, provider: str) -> ProviderResponse:
    """Read an answer of `POST /embeddings`, which has no id: its digest stands for one.

    Raises:
        UnreadableResponse: it is none, or has no usage.

    """
    if body.count(b"[") > MAX_INPUTS + OTHER_ARRAYS:
        raise UnreadableResponse("it has more arrays than there can be vectors")
    found = decoded(_decode_embeddings, body)
    for vector in found.data:
        decoded(_decode_numbers, vector.embedding)
    usage = embeddings_usage_from_wire(found.usage)
    answer = _CanonicalEmbeddings(
        model=request.model, provider=provider, embeddings=found.data, usage=answer_usage(usage)
    )
    return ProviderResponse(
        answer=_encode(answer),
        usage=usage,
        answered_by=sanitize_identifier(found.model),
        response_id=f"emb-{hashlib.sha256(body).hexdigest()[:24]}",
    )


def _answer(message: _Message) -> AnswerMessage:
    calls = [
        ToolCall(id=call.id, function=FunctionCall(name=call.function.name, arguments=call.function.arguments))
        for call in message.tool_calls or ()
    ]
    return AnswerMessage(content=text_of(message.content) or message.refusal, tool_calls=calls or UNSET)


def text_of(content: Any) -> str | None:
    """The text of a message or a delta: a string, or (Mistral's thinking models) the text parts of a list.

    Thinking has no place in the canonical answer, nor have parts of kinds to come.
    """
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = [text for part in parts if (text := _text_of_part(part)) is not None]
    return "".join(texts) if texts else None


def _text_of_part(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    return text if isinstance(text, str) else None


def _finish(choice: _Choice) -> FinishReason | None:
    """Why the answer ended. One that is nothing but a refusal is not what was asked for, whatever its form."""
    if choice.message.refusal and not text_of(choice.message.content):
        return "content_filter"
    return FINISH_REASONS.get(choice.finish_reason, "stop")


def embeddings_usage_from_wire(usage: WireUsage) -> TokenUsage:
    """What went in. Nothing comes out that would have a price, whatever the total says."""
    return usage_from_wire(msgspec.structs.replace(usage, total_tokens=None))


def usage_from_wire(usage: WireUsage) -> TokenUsage:
    """OpenAI's prompt tokens include the cached and the audio ones, its completion tokens the audio ones.

    Some of its kind (Gemini's endpoint, xAI's) leave the thinking out of the completion tokens: what the total has more
    was thought. A part is never more than what is left of its whole.
    """
    prompt = usage.prompt_tokens_details or _PromptDetails()
    completion = usage.completion_tokens_details or _CompletionDetails()
    rest, cached = part_of(usage.prompt_tokens, prompt.cached_tokens)
    rest, written = part_of(rest, prompt.cache_write_tokens)
    rest, audio_in = part_of(rest, prompt.audio_tokens)
    unsaid = max(0, (usage.total_tokens or 0) - usage.prompt_tokens - usage.completion_tokens)
    output, audio_out = part_of(usage.completion_tokens + unsaid, completion.audio_tokens)
    return TokenUsage(
        input=rest,
        cache_read=cached,
        cache_write=written,
        input_audio=audio_in,
        output=output,
        output_audio=audio_out,
        reasoning=min(max(completion.reasoning_tokens or 0, unsaid), output),
    )
