"""Where a call comes from, as its client says: the session, the agent and the program. Dimensions of usage.

Nothing but reports depends on them: a client may say what it likes, and sees the result in its own project alone. They
are kept apart from a caller's `metadata`, so that neither can be taken for the other.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

Dimension = Literal["session", "agent", "client"]
MAX_SESSION_CHARS = 128
MAX_NAME_CHARS = 64
MAX_READ_CHARS = 1_024
"""Of a header or a field; what is longer is no id."""

HEADERS: dict[Dimension, tuple[bytes, ...]] = {
    "session": (
        b"x-claude-code-session-id",
        b"x-session-id",
        b"x-opencode-session",
        b"x-session-affinity",  # opencode, Kilo
        b"session_id",  # Codex
        b"session-id",
        b"conversation_id",
        b"conversation-id",
        b"x-conversation-id",
        b"thread-id",
        b"x-thread-id",
        b"helicone-session-id",
        b"x-amp-thread-id",
    ),
    "agent": (
        b"x-agent-id",
        b"x-claude-code-agent-id",
        b"x-openai-subagent",  # Codex: review, compact
        b"x-agent-name",
        b"x-title",  # OpenRouter's header for the name of an application, which Cline, Roo and aider send
        b"x-openrouter-title",
        b"originator",  # Codex, and what is built on it
        b"http-referer",
        b"x-app",  # Claude Code: cli
    ),
    "client": (b"user-agent",),
}
"""By dimension: the headers that say it, the first that is there counts."""
_RANKS: dict[bytes, tuple[Dimension, int]] = {
    name: (dimension, rank) for dimension, names in HEADERS.items() for rank, name in enumerate(names)
}
_ADDRESS = b"http-referer"

_OTHER_CHARS = re.compile(r"[^\w.:@/+ -]", re.ASCII)
_PRODUCT = re.compile(r"[\w.+-]+(?:/[A-Za-z][A-Za-z.+-]*(?=[ /]|$))?", re.ASCII)
"""A `User-Agent`'s first product without its version: `claude-cli`, `OpenAI/Python` (of `OpenAI/Python 3.54.0`)."""
_SESSION_IN_USER = re.compile(r"_session_([\w-]{8,64})$", re.ASCII)
"""Of Claude Code's `metadata.user_id`: `user_…_account_…_session_…`. Newer ones are JSON with `session_id`."""


class Origin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a call comes from. None: its client does not say."""

    session: str | None = None
    agent: str | None = None
    client: str | None = None
    """The program or the library: the first product of its `User-Agent`."""


def origin_of(headers: Iterable[tuple[bytes, bytes]], session_in_body: str | None = None) -> Origin | None:
    """The origin of a request by its headers (lower-case names), and by what its body says; None: nothing is said."""
    best: dict[Dimension, tuple[int, bytes, bytes]] = {}
    for name, value in headers:
        if name not in _RANKS or not value or len(value) > MAX_READ_CHARS:
            continue
        dimension, rank = _RANKS[name]
        if dimension not in best or rank < best[dimension][0]:
            best[dimension] = (rank, name, value)
    if not best:
        return Origin(session=session_in_body) if session_in_body else None
    said = {dimension: _said(dimension, name, value) for dimension, (_, name, value) in best.items()}
    session = said.get("session") or session_in_body
    agent, client = said.get("agent"), said.get("client")
    return Origin(session=session, agent=agent, client=client) if session or agent or client else None


def session_in(fields: Mapping[str, Any]) -> str | None:
    """The session that a request's body names: in Anthropic's `metadata.user_id` as Claude Code writes it, in
    `metadata.session_id`, or in OpenAI's `prompt_cache_key`, which Codex sets to its conversation.
    """
    metadata = fields.get("metadata")
    if isinstance(metadata, dict):
        user, session = metadata.get("user_id"), metadata.get("session_id")
        if isinstance(session, str) and session:
            return _cut(session, MAX_SESSION_CHARS)
        if isinstance(user, str) and len(user) <= MAX_READ_CHARS and (found := _session_in_user(user)):
            return _cut(found, MAX_SESSION_CHARS)
    key = fields.get("prompt_cache_key")
    return _cut(key, MAX_SESSION_CHARS) if isinstance(key, str) and key else None


def _session_in_user(user: str) -> str | None:
    match = _SESSION_IN_USER.search(user)
    if match is not None:
        return match[1]
    if not user.startswith("{"):
        return None
    try:
        session = msgspec.json.decode(user)["session_id"]
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError):
        return None
    return session if isinstance(session, str) else None


def _said(dimension: Dimension, name: bytes, value: bytes) -> str | None:
    text = value.decode("latin-1").strip()
    if dimension == "client":
        match = _PRODUCT.match(text)
        return match[0][:MAX_NAME_CHARS] if match is not None else None
    if name == _ADDRESS:
        text = _host(text)
    return _cut(text, MAX_SESSION_CHARS if dimension == "session" else MAX_NAME_CHARS) or None


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc or address
    except ValueError:
        return address


def _cut(text: str, chars: int) -> str:
    """A name that may stand in a report: of few characters, and those plain."""
    return _OTHER_CHARS.sub("_", text[:chars])
