"""OpenAI's chat completions and embeddings as served: its clients' requests, and the answers that they understand.

https://platform.openai.com/docs/api-reference/chat/create. Only for what goes to a provider that does not speak this
dialect: a request that stays with OpenAI is passed on as it came. What cannot be carried over is refused by name.
Carried nowhere, because nothing but the price or the speed hangs on it: `prompt_cache_key`, `prompt_cache_options`,
`prompt_cache_retention` and `prompt_cache_breakpoint` (other vendors' prompt caches have no such handles), the `name`
of a tool message (it repeats what its `tool_call_id` says), and what OpenAI's SDK adds to an answer and sends back with
it: `parsed` and `parsed_arguments` (they repeat `content` and `arguments`), the `index` of a call (it is its place).
"""

import base64
import sys
from array import array
from typing import Any

import msgspec
from msgspec import UNSET

from domain.canonical.chat import (
    AnswerMessage,
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    Content,
    DeveloperMessage,
    FunctionCall,
    ImagePart,
    Message,
    ResponseFormat,
    SystemMessage,
    TextContent,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from domain.canonical.embeddings import EmbeddingsRequest, EmbeddingsResponse
from domain.dialects.openai_call import (
    DROPPABLE,
    DROPPABLE_IN_ASSISTANT,
    DROPPABLE_IN_STREAM_OPTIONS,
    AskedCall,
    AssistantTurn,
    ChatCall,
    DeveloperTurn,
    EmbeddingsCall,
    FreeText,
    ImagePiece,
    JsonObject,
    JsonOfSchema,
    SystemTurn,
    TextPiece,
    ToolTurn,
    UserTurn,
)
from domain.dialects.served import EncodingFormat, ServedEmbeddings, read, refused, reject_lossy_fields
from domain.errors import InvalidRequest
from domain.tokens import TokenUsage

_decoder = msgspec.json.Decoder(ChatCall)
_encode = msgspec.json.encode


def read_chat(body: bytes) -> ChatRequest:
    """Read the body of `POST /chat/completions`.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    chat = read(body, _decoder)
    reject_lossy_fields(DROPPABLE, chat)
    if chat.stream_options is not None:
        reject_lossy_fields(DROPPABLE_IN_STREAM_OPTIONS, chat.stream_options, inside="stream_options")
    return ChatRequest(
        model=chat.model,
        messages=[_message(message, f"messages[{index}]") for index, message in enumerate(chat.messages)],
        temperature=chat.temperature,
        max_tokens=_one_of(chat, "max_tokens", "max_completion_tokens"),
        top_p=chat.top_p,
        stop=chat.stop or None,
        seed=chat.seed,
        user=_one_of(chat, "user", "safety_identifier"),  # both tell who is at the other end, against misuse
        tools=chat.tools,
        tool_choice=chat.tool_choice,
        parallel_tool_calls=chat.parallel_tool_calls,
        response_format=_response_format(chat.response_format),
        reasoning_effort=chat.reasoning_effort,
    )


def _one_of(chat: ChatCall, older: str, newer: str) -> Any:
    """The value of two fields that say the same, of which a request has one (or both, alike)."""
    values = [value for value in (getattr(chat, newer), getattr(chat, older)) if value is not None]
    if len(values) > 1 and values[0] != values[1]:
        raise InvalidRequest(f"`{older}` and `{newer}` say different things: send one", field=older)
    return values[0] if values else None


def _message(message: SystemTurn | DeveloperTurn | UserTurn | AssistantTurn | ToolTurn, path: str) -> Message:
    match message:
        case SystemTurn():
            return SystemMessage(content=_texts(message.content), name=message.name)
        case DeveloperTurn():
            return DeveloperMessage(content=_texts(message.content), name=message.name)
        case UserTurn():
            return UserMessage(content=_parts(message.content), name=message.name)
        case AssistantTurn():
            reject_lossy_fields(DROPPABLE_IN_ASSISTANT, message, inside=path)
            calls = [_call(call) for call in message.tool_calls or ()]
            return AssistantMessage(content=_said(message), tool_calls=calls or None, name=message.name)
        case ToolTurn():
            return ToolMessage(content=_texts(message.content), tool_call_id=message.tool_call_id)


def _call(call: AskedCall) -> ToolCall:
    return ToolCall(id=call.id, function=FunctionCall(name=call.function.name, arguments=call.function.arguments))


def _texts(content: str | list[TextPiece]) -> TextContent:
    return content if isinstance(content, str) else [TextPart(text=part.text) for part in content]


def _parts(content: str | list[TextPiece | ImagePiece]) -> Content:
    if isinstance(content, str):
        return content
    return [
        TextPart(text=part.text) if isinstance(part, TextPiece) else ImagePart(image_url=part.image_url)
        for part in content
    ]


def _said(message: AssistantTurn) -> TextContent | None:
    """What the model said. A refusal is what it said, too: its words stand where its content would."""
    content: TextContent | None
    if message.content is None or isinstance(message.content, str):
        content = message.content
    else:
        content = [
            TextPart(text=part.text if isinstance(part, TextPiece) else part.refusal) for part in message.content
        ]
    if not message.refusal:
        return content
    if not content:
        return message.refusal
    said = [TextPart(text=content)] if isinstance(content, str) else content
    return [*said, TextPart(text=message.refusal)]


def _response_format(wanted: FreeText | JsonObject | JsonOfSchema | None) -> ResponseFormat | None:
    match wanted:
        case None:
            return None
        case FreeText():
            return ResponseFormat(type="text")
        case JsonObject():
            return ResponseFormat(type="json_object")
        case JsonOfSchema():
            return ResponseFormat(type="json_schema", json_schema=wanted.json_schema)


def write_chat(answer: ChatResponse, usage: TokenUsage, *, created_s: int) -> bytes:
    """An answer of `POST /chat/completions`; `created_s` is a Unix time."""
    return _encode(
        {
            "id": answer.id,
            "object": "chat.completion",
            "created": created_s,
            "model": answer.model,
            "choices": [
                {
                    "index": choice.index,
                    "message": _answer(choice.message),
                    "logprobs": None,
                    "finish_reason": choice.finish_reason or "stop",  # a client is always told one
                }
                for choice in answer.choices
            ],
            "usage": usage_to_wire(usage),
        }
    )


def usage_to_wire(usage: TokenUsage) -> dict[str, Any]:
    """Tokens as OpenAI counts them: the prompt's include the cached ones, the completion's the reasoning."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_prompt_tokens,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
            "audio_tokens": usage.input_audio + usage.cache_audio_read,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.output_audio},
    }


def _answer(message: AnswerMessage) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content, "refusal": None}
    if message.tool_calls is not UNSET and message.tool_calls:
        wire["tool_calls"] = message.tool_calls
    return wire


_embeddings_decoder = msgspec.json.Decoder(EmbeddingsCall)


def read_embeddings(body: bytes) -> ServedEmbeddings:
    """Read the body of `POST /embeddings`. Texts only: a token means something to its own model alone.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    asked = read(body, _embeddings_decoder)
    texts = asked.input if isinstance(asked.input, str) else [text for text in asked.input if isinstance(text, str)]
    if len(texts) != len(asked.input):
        raise refused("input", "send texts, tokens are those of OpenAI's models")
    request = EmbeddingsRequest(model=asked.model, input=texts, dimensions=asked.dimensions, user=asked.user)
    return ServedEmbeddings(request=request, encoding_format=asked.encoding_format or "float")


def write_embeddings(answer: EmbeddingsResponse, usage: TokenUsage, encoding_format: EncodingFormat) -> bytes:
    """An answer of `POST /embeddings`; `base64` (which OpenAI's SDK asks for) is of little-endian 32-bit floats."""
    return _encode(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": found.index,
                    "embedding": _base64(found.embedding) if encoding_format == "base64" else found.embedding,
                }
                for found in answer.embeddings
            ],
            "model": answer.model,
            "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens},
        }
    )


def _base64(vector: list[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
