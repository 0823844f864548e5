"""Names come in without characters that steer what shows them, and go out as headers and terminals can take them."""

import json

import msgspec
import pytest

from api.native.keys import NewKeyBody
from api.native.projects import NewProjectBody
from api.native.providers import NewProviderBody
from api.requests import Metadata
from domain.canonical.chat import ChatRequest
from domain.names import header_text, is_name, printable
from domain.sanitize import sanitize_identifier, sanitize_message

STEERING = {
    "an escape": "a\x1b[2Jb",
    "a line end": "a\nb",
    "a last line end": "a\n",
    "a bell of the second control set": "a\x9bb",
    "a deletion": "a\x7fb",
    "a turn of direction": "a\u202eb",
    "an isolated turn": "a\u2066b",
    "a line separator": "a\u2028b",
    "U+0000": "a\0b",
}
each_steering = pytest.mark.parametrize("name", STEERING.values(), ids=STEERING.keys())
ENDPOINT = {"name": "other", "kind": "openai", "baseUrl": "https://example.com/v1", "apiKey": "key"}


@each_steering
@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (NewProjectBody, {"name": ...}),
        (NewKeyBody, {"name": ...}),
        (NewKeyBody, {"name": "key", "models": [...]}),
        (NewProviderBody, ENDPOINT | {"models": [...]}),
        (NewProviderBody, ENDPOINT | {"name": ...}),
        (NewProviderBody, ENDPOINT | {"apiKey": ...}),
        (NewProviderBody, ENDPOINT | {"baseUrl": ...}),
        (ChatRequest, {"model": ..., "messages": [{"role": "user", "content": "hi"}]}),
        (Metadata, {...: 1}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or (str(list(value)) if isinstance(value, dict) else "metadata"),
)
def test_a_name_that_steers_its_reader_is_refused(shape: object, body: dict[object, object], name: str) -> None:
    given = {
        name if key is ... else key: name if value is ... else [name] if value == [...] else value
        for key, value in body.items()
    }
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, shape)  # type: ignore[call-overload]
    assert not is_name(name)


@pytest.mark.parametrize("name", ["模型", "Ünïcode", "gpt-4o", "👩‍💻 team", "a b", "עברית"])
def test_a_name_may_be_in_any_language(name: str) -> None:
    assert is_name(name)
    assert msgspec.convert({"name": name}, NewKeyBody).name == name
    assert printable(name) == name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gpt-4o", "gpt-4o"),
        ("模型", "%E6%A8%A1%E5%9E%8B"),
        ("ft:gpt 4,a/b", "ft:gpt 4,a/b"),
        ("100%", "100%25"),
        ("a\r\nset-cookie: b", "a%0D%0Aset-cookie: b"),
    ],
)
def test_a_header_has_visible_ascii_and_the_rest_encoded(text: str, value: str) -> None:
    assert header_text(text) == value
    assert value.encode("ascii").decode().isprintable()


@each_steering
def test_what_is_shown_on_a_terminal_cannot_steer_it(name: str) -> None:
    assert printable(name).isprintable()
    assert json.loads(f'"{printable(name)}"') == name
    assert sanitize_identifier(name).isprintable()


def test_a_message_for_people_keeps_its_lines() -> None:
    assert sanitize_message("first\n\tsecond\x1b[2J") == "first\n\tsecond[2J"
