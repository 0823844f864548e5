"""Anthropic's messages. https://docs.anthropic.com/en/api/messages

System and developer messages, wherever they stand, are joined into `system` in their order; neighbours of one role are
merged, since Anthropic's turns alternate; tool results become blocks of the user's turn. Empty texts of the model's are
left out, since Anthropic takes none: OpenAI's write them beside their tool calls.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct

from domain.canonical.chat import (
    AnswerMessage,
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    DeveloperMessage,
    FinishReason,
    FunctionCall,
    ImagePart,
    ImageUrl,
    JsonSchema,
    NamedToolChoice,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from domain.dialects.provider_response import ProviderResponse, answer_usage
from domain.dialects.streamed import decoded
from domain.errors import InvalidRequest
from domain.models import ANTHROPIC_DEFAULT_MAX_OUTPUT, model_limits
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenCount, TokenUsage

_DATA_URL = re.compile(r"data:(image/(?:jpeg|png|gif|webp));base64,(.+)", re.DOTALL)


def check_chat(request: ChatRequest, upstream_model: str) -> None:
    """Refuse what Anthropic has no word for.

    Raises:
        InvalidRequest: names the field and what is allowed.

    """
    for field, given, allowed in (
        ("temperature", request.temperature is not None and request.temperature > 1, "Anthropic's range is 0 to 1"),
        ("seed", request.seed is not None, "Anthropic's models take no seed: leave it out"),
        (
            "responseFormat",
            request.response_format is not None and request.response_format.type == "json_object",
            "Anthropic's models know 'text' and 'json_schema'",
        ),
        (
            "reasoningEffort",
            request.reasoning_effort in ("none", "minimal"),
            "Anthropic's models know 'low', 'medium', 'high', 'xhigh' and 'max'",
        ),
        (
            "responseFormat.jsonSchema",
            request.response_format is not None
            and request.response_format.type == "json_schema"
            and request.response_format.json_schema is None,
            "a format of type 'json_schema' needs it",
        ),
        ("toolChoice", request.tool_choice is not None and not request.tools, "needs `tools`"),
    ):
        if given:
            raise InvalidRequest(f"`{field}` cannot be sent to {upstream_model}: {allowed}", field=field)
    chat_to_wire(request, upstream_model)


def chat_to_wire(request: ChatRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /v1/messages`.

    Raises:
        InvalidRequest: a message holds what cannot be carried over.

    """
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(request.messages):
        if getattr(message, "name", None) is not None:
            raise InvalidRequest(
                f"`messages[{index}].name` cannot be sent to {upstream_model}: leave it out",
                field=f"messages[{index}].name",
            )
        if isinstance(message, SystemMessage | DeveloperMessage):
            system.append(_text(message.content))
            continue
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        blocks = _blocks(message, f"messages[{index}]")
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    limits = model_limits(upstream_model)
    wire: dict[str, Any] = {
        "model": upstream_model,
        "max_tokens": request.max_tokens or (limits.max_output if limits is not None else ANTHROPIC_DEFAULT_MAX_OUTPUT),
        "messages": turns,
        "system": "\n\n".join(system) or None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop_sequences": [request.stop] if isinstance(request.stop, str) else request.stop,
        "metadata": {"user_id": request.user} if request.user else None,
        "tools": _tools(request),
        "tool_choice": _tool_choice(request),
        "output_config": _output_config(request),
    }
    return {name: value for name, value in wire.items() if value is not None}


def _blocks(message: Any, path: str) -> list[dict[str, Any]]:
    if isinstance(message, ToolMessage):
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": _text(message.content)}]
    blocks = _content(message.content, path)
    if isinstance(message, AssistantMessage):
        blocks = [block for block in blocks if block.get("text") != ""]
    for index, call in enumerate(getattr(message, "tool_calls", None) or ()):
        try:
            arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict)
        except msgspec.DecodeError as error:
            field = f"{path}.toolCalls[{index}].function.arguments"
            raise InvalidRequest(f"`{field}` must be a JSON object for this model: {error}", field=field) from error
        blocks.append({"type": "tool_use", "id": call.id, "name": call.function.name, "input": arguments})
    return blocks


def _content(content: Any, path: str) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [
        {"type": "image", "source": _image(part.image_url, f"{path}.content[{index}].imageUrl")}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": part.text}
        for index, part in enumerate(content)
    ]


def _image(image: ImageUrl, path: str) -> dict[str, Any]:
    if image.detail == "low":  # Anthropic's models see the whole of every image, at its price
        raise InvalidRequest(
            f"`{path}.detail` 'low' cannot be sent to this model: leave it out, or send a smaller image",
            field=f"{path}.detail",
        )
    if image.url.startswith("https://"):
        return {"type": "url", "url": image.url}
    data = _DATA_URL.fullmatch(image.url)
    if data is None:
        raise InvalidRequest(
            f"`{path}.url` must be an https address or a data: URL of a JPEG, PNG, GIF or WebP in base64",
            field=f"{path}.url",
        )
    return {"type": "base64", "media_type": data[1], "data": data[2]}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _tools(request: ChatRequest) -> list[dict[str, Any]] | None:
    if not request.tools:
        return None
    return [
        {"name": tool.function.name, "input_schema": tool.function.parameters or {"type": "object", "properties": {}}}
        | ({"description": tool.function.description} if tool.function.description else {})
        | ({"strict": tool.function.strict} if tool.function.strict is not None else {})
        for tool in request.tools
    ]


def _tool_choice(request: ChatRequest) -> dict[str, Any] | None:
    if not request.tools:
        return None
    choice: dict[str, Any] | None
    match request.tool_choice:
        case NamedToolChoice() as named:
            choice = {"type": "tool", "name": named.function.name}
        case "required":
            choice = {"type": "any"}
        case "none":
            return {"type": "none"}
        case "auto":
            choice = {"type": "auto"}
        case None:
            choice = None
    if request.parallel_tool_calls is not None:
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": not request.parallel_tool_calls}
    return choice


def _output_config(request: ChatRequest) -> dict[str, Any] | None:
    config: dict[str, Any] = {}
    if request.reasoning_effort is not None:
        config["effort"] = request.reasoning_effort
    if request.response_format is not None and request.response_format.json_schema is not None:
        config["format"] = {"type": "json_schema", "schema": _described(request.response_format.json_schema)}
    return config or None


def _described(wanted: JsonSchema) -> dict[str, Any]:
    """The schema, with what the answer is for as its description: Anthropic has no other place for it."""
    if wanted.description is None:
        return wanted.schema
    if wanted.schema.get("description", wanted.description) != wanted.description:
        field = "responseFormat.jsonSchema.description"
        raise InvalidRequest(
            f"`{field}` cannot be sent to this model beside another one in the schema: leave it out", field=field
        )
    return wanted.schema | {"description": wanted.description}


MAX_ITERATIONS = 1_000


class CacheCreation(Struct, frozen=True):
    """What was written to the cache, by lifetime."""

    ephemeral_5m_input_tokens: TokenCount = 0
    ephemeral_1h_input_tokens: TokenCount = 0


class OutputDetails(Struct, frozen=True):
    """What the output was spent on."""

    thinking_tokens: TokenCount | None = None


class Iteration(Struct, frozen=True, kw_only=True):
    """One of the model's turns within an answer. Of type `compaction`: a summary, which the sums leave out."""

    type: str = ""
    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation: CacheCreation | None = None


Iterations = Annotated[list[Iteration], Meta(max_length=MAX_ITERATIONS)]


class WireUsage(Struct, frozen=True, kw_only=True):
    """Tokens as the vendor counts them."""

    input_tokens: TokenCount
    output_tokens: TokenCount
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None
    iterations: Iterations | None = None


class _Block(Struct, frozen=True):
    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: Any = None


class _Message(Struct, frozen=True):
    id: str
    content: list[_Block]
    usage: WireUsage
    model: str = ""
    stop_reason: str | None = None


_decode = msgspec.json.Decoder(_Message).decode

FINISH_REASONS: dict[str | None, FinishReason | None] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    None: None,
}


def chat_from_wire(body: bytes, request: ChatRequest, provider: str) -> ProviderResponse:
    """Read an answer of `POST /v1/messages`: its text blocks joined, its tool uses as calls.

    Raises:
        UnreadableResponse: it is none, or has no usage.

    """
    message = decoded(_decode, body)
    usage = usage_from_wire(message.usage)
    response_id = sanitize_identifier(message.id)
    texts = [block.text for block in message.content if block.type == "text"]
    calls = [
        ToolCall(
            id=block.id, function=FunctionCall(name=block.name, arguments=msgspec.json.encode(block.input).decode())
        )
        for block in message.content
        if block.type == "tool_use"
    ]
    finish = FINISH_REASONS.get(message.stop_reason, "stop")
    answer = AnswerMessage(content="".join(texts) if texts else None, tool_calls=calls or UNSET)
    return ProviderResponse(
        answer=ChatResponse(
            id=response_id,
            model=request.model,
            provider=provider,
            choices=[Choice(index=0, message=answer, finish_reason=finish)],
            usage=answer_usage(usage),
        ),
        usage=usage,
        answered_by=sanitize_identifier(message.model),
        response_id=response_id,
        finish_reason=finish,
    )


def usage_from_wire(usage: WireUsage) -> TokenUsage:
    """Anthropic's input tokens exclude the cache; what was written to it is split by lifetime where the answer does.

    Summaries of the context that the provider asked the model for are billed, too.
    """
    details = usage.output_tokens_details
    counted = _counted(usage, (details.thinking_tokens or 0) if details is not None else 0)
    for iteration in usage.iterations or ():
        if iteration.type == "compaction":
            counted = _sum(counted, _counted(iteration, 0))
    return counted


def _counted(usage: WireUsage | Iteration, thinking_tokens: int) -> TokenUsage:
    written = usage.cache_creation_input_tokens or 0
    split = usage.cache_creation or CacheCreation(ephemeral_5m_input_tokens=written)
    return TokenUsage(
        input=usage.input_tokens or 0,
        cache_read=usage.cache_read_input_tokens or 0,
        cache_write=max(written, split.ephemeral_5m_input_tokens + split.ephemeral_1h_input_tokens)
        - split.ephemeral_1h_input_tokens,
        cache_write_1h=split.ephemeral_1h_input_tokens,
        output=usage.output_tokens or 0,
        reasoning=min(thinking_tokens, usage.output_tokens or 0),
    )


def _sum(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    first, second = msgspec.structs.asdict(one), msgspec.structs.asdict(other)
    return TokenUsage(**{name: first[name] + second[name] for name in first})
