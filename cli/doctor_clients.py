"""The clients that `gateway doctor` knows: the calls that each makes, and what to set in it.

The bodies have the fields that the clients send, with a short prompt. Knows nothing of the gateway but its address.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

PROMPT = "Reply with the word ok."
CODING_CAP = 32_000
"""The output cap that coding agents send: what a key's budget has to have room for."""
_MAX_SHOWN_CHARS = 300


class Answer(Struct, frozen=True, kw_only=True):
    """What came back. `status` is 0 if nothing did; the body then has the reason."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body; an empty object if it is no JSON object."""
        try:
            found = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    def message(self) -> str:
        """Why it was refused, in a line."""
        error = self.json().get("error")
        said = error.get("message") if isinstance(error, dict) else None
        text = str(said or self.body.decode(errors="replace") or "an empty answer")
        return f"{self.status}: {' '.join(text.split())[:_MAX_SHOWN_CHARS]}" if self.status else text

    def notes(self) -> list[str]:
        """What the gateway tells of an answer beside it."""
        found = {name.lower(): value for name, value in self.headers.items()}
        notes = []
        if "x-gateway-dropped" in found:
            notes.append(f"left out: {found['x-gateway-dropped']}")
        if "x-gateway-max-tokens" in found:
            notes.append(f"the budget has room for {found['x-gateway-max-tokens']} output tokens")
        if "x-gateway-cost-usd" in found:
            notes.append(f"${found['x-gateway-cost-usd']}")
        return notes


def _no_problem(_answer: Answer) -> str | None:
    return None


class Call(Struct, frozen=True, kw_only=True):
    """One call of a client."""

    name: str
    method: str = "POST"
    path: str
    body: Callable[[str], Any] | None = None
    """From the model's name to the JSON."""
    headers: Mapping[str, str] = {}
    status: int = 200
    """What the client expects."""
    problem: Callable[[Answer], str | None] = _no_problem
    """What is wrong with an answer of this status; None: nothing."""


class DoctorClient(Struct, frozen=True, kw_only=True):
    """A client."""

    name: str
    prefers: Sequence[str]
    """Beginnings of the names of models that it asks unless told otherwise, the best first."""
    headers: Callable[[str], dict[str, str]]
    """From the key to the headers that it sends with every call."""
    settings: Callable[[str, str, str], Sequence[str]]
    """From the address, the key and the model to the lines that set it."""
    calls: Sequence[Call]

    def choose(self, models: Sequence[str]) -> str | None:
        """The model to ask of those that the key can ask."""
        for beginning in self.prefers:
            for model in models:
                if model.startswith(beginning):
                    return model
        return models[0] if models else None


def _ends_with(event: bytes) -> Callable[[Answer], str | None]:
    def problem(answer: Answer) -> str | None:
        kind = next((value for name, value in answer.headers.items() if name.lower() == "content-type"), "")
        if not kind.startswith("text/event-stream"):
            return f"the answer is {kind or 'of no type'}, not a stream of events"
        return None if event in answer.body else f"the stream ended without {event.decode()}"

    return problem


def _has(name: str) -> Callable[[Answer], str | None]:
    return lambda answer: None if answer.json().get(name) else f"the answer has no `{name}`"


_SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""One pixel."""


def _message(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": PROMPT}]} | fields


def _claude_code_turn(model: str) -> dict[str, Any]:
    """A turn of Claude Code after a tool was called, which read a picture."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PNG}}
    call = {"type": "tool_use", "id": "toolu_01", "name": "Read", "input": {"path": "a.png"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_01", "content": [{"type": "text", "text": "a"}, picture]}
    return {
        "model": model,
        "max_tokens": CODING_CAP,
        "stream": True,
        "system": [{"type": "text", "text": "You are a doctor.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "Read", "description": "Reads a file", "input_schema": _SCHEMA}],
        "metadata": {"user_id": "user_doctor_account__session_00000000-0000-4000-8000-000000000000"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result, {"type": "text", "text": PROMPT}]},
        ],
    }


def _chat(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}]} | fields


def _chat_turn(model: str) -> dict[str, Any]:
    """A turn after a tool was called."""
    call = {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": '{"path": "a"}'}}
    function = {"name": "read", "description": "Reads a file", "parameters": _SCHEMA}
    return _chat(
        model,
        stream=True,
        stream_options={"include_usage": True},
        tools=[{"type": "function", "function": function}],
        messages=[
            {"role": "user", "content": PROMPT},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "a"},
        ],
    )


def _codex_turn(model: str) -> dict[str, Any]:
    """A turn of Codex after a tool was called."""
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": PROMPT}]}
    call = {"type": "function_call", "call_id": "call_1", "name": "shell", "arguments": '{"path": "a"}'}
    return {
        "model": model,
        "instructions": "You are a doctor.",
        "input": [said, call, {"type": "function_call_output", "call_id": "call_1", "output": "a"}],
        "tools": [{"type": "function", "name": "shell", "description": "Runs", "strict": False, "parameters": _SCHEMA}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "store": False,
        "stream": True,
        "include": [],
        "prompt_cache_key": "00000000-0000-4000-8000-000000000000",
    }


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _anthropics(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


_MESSAGES_STREAM = _ends_with(b"message_stop")
_UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}

CLIENTS: dict[str, DoctorClient] = {
    "claude-code": DoctorClient(
        name="Claude Code",
        prefers=("claude-sonnet", "claude-"),
        headers=lambda key: (
            _anthropics(key)
            | {
                "user-agent": "claude-cli/2.0 (gateway doctor)",
                "x-app": "cli",
                "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
            }
        ),
        settings=lambda address, key, model: (
            f"export ANTHROPIC_BASE_URL={address}",
            f"export ANTHROPIC_API_KEY={_shown(key)}",
            f"claude --model {model}",
        ),
        calls=(
            Call(
                name="counts tokens",
                path="/v1/messages/count_tokens?beta=true",
                body=lambda model: {name: value for name, value in _message(model).items() if name != "max_tokens"},
                problem=_has("input_tokens"),
            ),
            Call(name="answers", path="/v1/messages?beta=true", body=_message, problem=_has("content")),
            Call(
                name="streams a turn with tools and a picture",
                path="/v1/messages?beta=true",
                body=_claude_code_turn,
                problem=_MESSAGES_STREAM,
            ),
        ),
    ),
    "codex": DoctorClient(
        name="Codex",
        prefers=("gpt-5", "gpt-", "o"),
        headers=lambda key: (
            _bearer(key) | {"user-agent": "codex_cli_rs/0.60 (gateway doctor)", "originator": "codex_cli_rs"}
        ),
        settings=lambda address, _key, model: (
            "in ~/.codex/config.toml:",
            f'model = "{model}"',
            'model_provider = "gateway"',
            "[model_providers.gateway]",
            'name = "gateway"',
            f'base_url = "{address}/v1"',
            'env_key = "AI_GATEWAY_KEY"',
            'wire_api = "responses"',
        ),
        calls=(
            Call(name="refuses a WebSocket", method="GET", path="/v1/responses", headers=_UPGRADE, status=426),
            Call(
                name="streams a turn with tools",
                path="/v1/responses",
                body=_codex_turn,
                headers={"accept": "text/event-stream"},
                problem=_ends_with(b"response.completed"),
            ),
        ),
    ),
    "openai": DoctorClient(
        name="OpenAI's SDK",
        prefers=("gpt-4o-mini", "gpt-"),
        headers=_bearer,
        settings=lambda address, key, _model: (
            f"export OPENAI_BASE_URL={address}/v1",
            f"export OPENAI_API_KEY={_shown(key)}",
        ),
        calls=(
            Call(name="answers", path="/v1/chat/completions", body=_chat, problem=_has("choices")),
            Call(
                name="streams a turn with tools",
                path="/v1/chat/completions",
                body=_chat_turn,
                problem=_ends_with(b"[DONE]"),
            ),
            Call(
                name="answers on the Responses API",
                path="/v1/responses",
                body=lambda model: {"model": model, "input": PROMPT, "store": False},
                problem=_has("output"),
            ),
        ),
    ),
    "anthropic": DoctorClient(
        name="Anthropic's SDK",
        prefers=("claude-haiku", "claude-"),
        headers=_anthropics,
        settings=lambda address, key, _model: (
            f"export ANTHROPIC_BASE_URL={address}",
            f"export ANTHROPIC_API_KEY={_shown(key)}",
        ),
        calls=(
            Call(name="answers", path="/v1/messages", body=_message, problem=_has("content")),
            Call(
                name="streams",
                path="/v1/messages",
                body=lambda model: _message(model, stream=True),
                problem=_MESSAGES_STREAM,
            ),
            Call(
                name="counts tokens",
                path="/v1/messages/count_tokens",
                body=lambda model: {"model": model, "messages": [{"role": "user", "content": PROMPT}]},
                problem=_has("input_tokens"),
            ),
        ),
    ),
}
"""By the name on the command line."""


def _shown(key: str) -> str:
    """A key as it may stand on a screen: its beginning."""
    return f"{key[:8]}…"
