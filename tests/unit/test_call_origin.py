"""The session, the agent and the program of a call are found where clients say them."""

from typing import Any

import pytest

from domain.call_origin import MAX_NAME_CHARS, MAX_SESSION_CHARS, Origin, origin_of, session_in

SESSION = "0b5e4c9e-7f3a-4d53-9f6b-8d1c2f3a4b5c"


def of(**headers: str) -> Origin | None:
    return origin_of([(name.replace("__", "-").encode(), value.encode("latin-1")) for name, value in headers.items()])


def test_a_client_that_says_nothing_has_no_origin() -> None:
    assert of() is None
    assert of(content__type="application/json", x__session__id="") is None


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        (
            {
                "user__agent": "claude-cli/2.0.1 (external, cli)",
                "x__app": "cli",
                "x__claude__code__session__id": SESSION,
            },
            Origin(session=SESSION, agent="cli", client="claude-cli"),
        ),
        (
            {
                "user__agent": "codex_cli_rs/0.63.0 (Debian 12) xterm",
                "originator": "codex_cli_rs",
                "session_id": SESSION,
            },
            Origin(session=SESSION, agent="codex_cli_rs", client="codex_cli_rs"),
        ),
        (
            {"x__openai__subagent": "review", "originator": "codex_exec", "conversation_id": SESSION},
            Origin(session=SESSION, agent="review"),
        ),
        (
            {"user__agent": "opencode/1.0 ai-sdk/provider", "x__session__affinity": "ses_1"},
            Origin(session="ses_1", client="opencode"),
        ),
        (
            {"user__agent": "OpenAI/JS 6.1.0", "x__title": "Cline", "http__referer": "https://cline.bot/x?y=1"},
            Origin(agent="Cline", client="OpenAI/JS"),
        ),
        ({"http__referer": "https://aider.chat/docs"}, Origin(agent="aider.chat")),
        ({"x__agent__id": "a1", "x__title": "Roo", "x__session__id": "s1"}, Origin(session="s1", agent="a1")),
        ({"user__agent": "AsyncAnthropic/Python 2.12.0"}, Origin(client="AsyncAnthropic/Python")),
        ({"user__agent": "Mozilla/5.0 (X11; Linux) Chrome/130.0"}, Origin(client="Mozilla")),
        ({"user__agent": "curl/8.9.1"}, Origin(client="curl")),
    ],
)
def test_headers_of_known_clients_are_read(headers: dict[str, str], origin: Origin) -> None:
    assert of(**headers) == origin


def test_names_are_cut_and_of_plain_characters() -> None:
    found = of(x__session__id="é'\";\n<b>" + "s" * 500, x__agent__id="a" * 500, user__agent="p" * 500)
    assert found is not None
    assert found.session == ("______b_" + "s" * 500)[:MAX_SESSION_CHARS]
    assert (found.agent, found.client) == ("a" * MAX_NAME_CHARS, "p" * MAX_NAME_CHARS)


def test_a_header_that_is_no_id_says_nothing() -> None:
    assert of(x__session__id="s" * 5_000, user__agent="(comment)") is None


@pytest.mark.parametrize(
    ("fields", "session"),
    [
        ({}, None),
        ({"metadata": {"user_id": f"user_abc_account_{SESSION}_session_{SESSION}"}}, SESSION),
        ({"metadata": {"user_id": f'{{"device_id":"d","session_id":"{SESSION}"}}'}}, SESSION),
        ({"metadata": {"user_id": "somebody"}}, None),
        ({"metadata": {"user_id": "{not json"}}, None),
        ({"metadata": {"user_id": "{}"}}, None),
        ({"metadata": {"user_id": 7}, "prompt_cache_key": ["x"]}, None),
        ({"metadata": {"session_id": "mine"}}, "mine"),
        ({"metadata": None, "prompt_cache_key": SESSION}, SESSION),
        ({"prompt_cache_key": "k" * 500}, "k" * MAX_SESSION_CHARS),
    ],
)
def test_the_session_is_found_in_the_body(fields: dict[str, Any], session: str | None) -> None:
    assert session_in(fields) == session


def test_a_header_goes_before_the_body() -> None:
    assert origin_of([(b"x-session-id", b"h")], "b") == Origin(session="h")
    assert origin_of([(b"user-agent", b"curl/8")], "b") == Origin(session="b", client="curl")
