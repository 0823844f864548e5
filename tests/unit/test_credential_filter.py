"""What a provider says passes the filter without the credential that it was called with, however it is written."""

import base64
import html
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.dialects.errors import UnreadableResponse
from domain.dialects.sse import SseEvent, SseParser, sse
from domain.secret_text import is_secret
from workers.credential_filter import SLICE_BYTES, CredentialFilter
from workers.escaped_text import MAX_WORK, Work
from workers.split_secrets import (
    HELD_CHARS,
    MAX_BEGUN,
    MAX_EVENTS_BETWEEN,
    MAX_STARTS,
    MAX_TEXTS,
    SplitSecrets,
    secret_of,
)

KEY = "sk-test-openai-canary"
REPEATING_KEY = "a" * 998 + "b7"
"""Begins at every place of a text of its letter."""
ODD_KEY = 'AbC/d+e=f&g<h>"k\\zz9'
WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": lambda key: json.dumps(key)[1:-1],
    "in JSON inside JSON": lambda key: json.dumps(json.dumps({"a": key})),
    "with every character escaped in JSON": lambda key: "".join(f"\\u{ord(character):04X}" for character in key),
    "with one character escaped in JSON": lambda key: f"\\u{ord(key[0]):04x}{key[1:]}",
    "with slashes escaped": lambda key: key.replace("/", "\\/"),
    "in a URL": lambda key: quote(key, safe=""),
    "in a URL inside a URL": lambda key: quote(quote(key, safe=""), safe=""),
    "with every character escaped in a URL": lambda key: "".join(f"%{byte:02x}" for byte in key.encode()),
    "in HTML": html.escape,
    "in numeric HTML": lambda key: "".join(f"&#x{ord(character):x};" for character in key),
    "in hexadecimal": lambda key: key.encode().hex(),
}


def texts_of(events: list[SseEvent]) -> str:
    """Return the text that a client puts together."""
    return "".join(json.loads(event.data)["choices"][0]["delta"]["content"] for event in events)


def delta(text: str) -> bytes:
    """Return an event with a piece of text."""
    return sse(json.dumps({"id": "c1", "choices": [{"index": 0, "delta": {"content": text}}]}).encode())


def texts(*said: str) -> bytes:
    """Return an event with many texts."""
    return sse(("{" + ",".join(f'"x":"{text}"' for text in said) + "}").encode())


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions, of Python or of C, are called for a work."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


EVERY_KEY = "".join(map(chr, range(33, 127)))
"""Has every character, so that every escape is one of its own."""


def filtered(secrets: CredentialFilter, writes: list[bytes]) -> tuple[list[SseEvent], list[SseEvent]]:
    """Return the events that are sent as they come, and those that are sent at the end."""
    parser, stream = SseParser(), secrets.stream()
    sent = [event for write in writes if (events := parser.feed(write)) for event in stream.take(events)]
    return sent, stream.rest()


@pytest.mark.parametrize("key", [KEY, ODD_KEY], ids=["a vendor's key", "a key with every character"])
@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN.keys())
def test_the_key_is_hidden_however_it_is_written(write: Callable[[str], str], key: str) -> None:
    said = f'{{"error": "bad key {write(key)}, sorry"}}'.encode()
    hidden = CredentialFilter([key]).whole(said)
    assert write(key).encode() not in hidden
    assert hidden.startswith(b'{"error": "bad key ')
    assert hidden.endswith(b', sorry"}')
    assert "…".encode() in hidden


@pytest.mark.parametrize("before", ["", "u:", "Bearer "])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_the_key_is_hidden_in_base64_wherever_it_stands(encode: Callable[[bytes], bytes], before: str) -> None:
    hidden = CredentialFilter([KEY]).whole(encode(f"{before}{KEY}, and more".encode()))
    head, _, tail = hidden.partition("…".encode())
    readable = base64.b64decode(head[: len(head) // 4 * 4]) + base64.b64decode(tail[len(tail) % 4 :])
    assert b"canary" not in readable
    assert b"sk-test" not in readable


def test_what_has_no_secret_goes_on_as_it_is() -> None:
    said = b'{"text": "50% of \\u0073ome & more \\n sk-test-openai-canar"}'
    assert CredentialFilter([KEY]).whole(said) is said
    event = SseParser().feed(delta("50% off"))
    assert CredentialFilter([KEY]).stream().take(event) is event


@pytest.mark.parametrize("offset", range(-len(KEY) * 6, 7, 3))
def test_the_key_is_hidden_where_two_slices_meet(offset: int) -> None:
    key = "".join(f"\\u{ord(character):04x}" for character in KEY).encode()
    said = b"y" * (SLICE_BYTES + offset) + key + b"z" * SLICE_BYTES
    assert CredentialFilter([KEY]).whole(said) == said.replace(key, "…".encode())


@pytest.mark.parametrize("text", ["ollama", "placeholder", "EMPTY", "12345678", "no-key"])
def test_a_word_is_no_secret(text: str) -> None:
    assert not is_secret(text)
    said = f"an answer with {text} in it".encode()
    assert CredentialFilter([text]).whole(said) is said


def test_every_secret_of_a_call_is_hidden() -> None:
    assert CredentialFilter([KEY, "proxy-token-1"]).whole(f"{KEY} proxy-token-1".encode()).decode() == "… …"


@pytest.mark.parametrize("cut", range(1, 80, 7))
def test_the_key_is_hidden_when_the_network_cuts_it(cut: int) -> None:
    written = delta(f"my key is {KEY}")
    sent, held = filtered(CredentialFilter([KEY]), [written[:cut], written[cut:]])
    assert texts_of(sent + held) == "my key is …"


@given(st.lists(st.integers(1, len(KEY) + 10), max_size=30))
def test_the_key_is_hidden_when_deltas_cut_it(cuts: list[int]) -> None:
    said = f"text {KEY} text"
    bounds = [0, *sorted({cut for cut in cuts if cut < len(said)}), len(said)]
    writes = [delta(said[start:end]) for start, end in pairwise(bounds)]
    sent, held = filtered(CredentialFilter([KEY]), writes)
    assert not held
    text = texts_of(sent)
    assert text.startswith("text ")
    assert text.endswith("… text")
    assert KEY.startswith(text.removeprefix("text ").removesuffix("… text"))
    assert len(text) < len("text … text") + HELD_CHARS


@pytest.mark.parametrize("key", [KEY, ODD_KEY], ids=["a vendor's key", "a key with every character"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("together", [2, 3, 5])
def test_the_key_is_hidden_in_events_that_come_together(key: str, size: int, together: int) -> None:
    said = "".join(f"{key[:count]} {key[0]}" for count in range(1, len(key))) + f" words {key} end"
    events = [delta(said[at : at + size]) for at in range(0, len(said), size)]
    writes = [b"".join(events[at : at + together]) for at in range(0, len(events), together)]
    sent, held = filtered(CredentialFilter([key]), writes)
    assert texts_of(sent + held) in {said.replace(key, f"{key[:begun]}…") for begun in range(HELD_CHARS)}


def test_the_key_is_hidden_when_other_events_come_between_its_pieces() -> None:
    ping = sse(b'{"type": "ping"}', "ping")
    sent, held = filtered(CredentialFilter([KEY]), [delta("sk-test-"), ping, delta("openai-"), ping, delta("canary.")])
    assert "".join(texts_of([event]) for event in sent + held if event.name != "ping") == "…."
    assert sum(event.name == "ping" for event in sent) == 2


def test_what_only_begins_as_the_key_does_is_sent_on() -> None:
    writes = [delta("ask"), delta("s sk-test-"), delta("openai"), delta(" models"), delta(" sk-test-openai")]
    sent, held = filtered(CredentialFilter([KEY]), writes)
    assert b"".join(event.raw for event in sent + held) == b"".join(writes)
    assert sent[0].raw == writes[0]
    later, held = filtered(CredentialFilter([KEY]), [*writes, *[delta("more")] * (MAX_EVENTS_BETWEEN + 1)])
    assert b"".join(event.raw for event in later[: len(writes)]) == b"".join(writes)


@given(st.text(alphabet='sk-tes openaicry\n"', max_size=40), st.integers(1, 5))
def test_a_text_without_the_key_goes_on_as_it_is(text: str, size: int) -> None:
    writes = [delta(text[start : start + size]) for start in range(0, len(text), size)]
    sent, held = filtered(CredentialFilter([KEY]), writes)
    assert b"".join(event.raw for event in sent + held) == b"".join(writes)


@pytest.mark.parametrize("began", [["aaaaaaaa"] * 64, ["a" * count for count in range(6, 70)]], ids=["alike", "unlike"])
@pytest.mark.parametrize("text", ["a", "aaaaaaaa", "a" * 997 + "c"])
def test_an_event_of_many_texts_costs_no_more_than_a_delta_may(began: list[str], text: str) -> None:
    def work(count: int) -> int:
        split = SplitSecrets([secret_of(REPEATING_KEY)])
        for said in (texts(*began), texts(*[text] * count)):
            events = SseParser().feed(said)
            calls = calls_of(lambda events=events, said=said: split.take(events, said, b"."))  # type: ignore[misc]
            assert len(split._begun) <= MAX_BEGUN
        return calls

    assert work(4_096) < work(MAX_TEXTS) * 1.01  # a cache that fills, or a collection, makes a few calls as well
    assert work(MAX_TEXTS) < MAX_TEXTS * (MAX_BEGUN + MAX_STARTS) * 8


def test_what_begins_alike_in_many_texts_is_kept_once() -> None:
    split = SplitSecrets([secret_of(REPEATING_KEY)])
    for _ in range(8):
        said = texts(*["aaaaaaaa"] * 64)
        split.take(SseParser().feed(said), said, b".")
        assert len({(begun.secret, begun.count) for begun in split._begun}) == len(split._begun) <= 8


def test_a_key_that_repeats_itself_is_hidden_when_deltas_cut_it() -> None:
    key = "abababab" * 4 + "-abababab-7"
    for size in (5, 7, 11):
        said = f"abab {key}."
        sent, held = filtered(
            CredentialFilter([key]), [delta(said[at : at + size]) for at in range(0, len(said), size)]
        )
        assert key not in texts_of(sent + held)
        assert texts_of(sent + held).endswith("….")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (REPEATING_KEY, "a" * SLICE_BYTES + REPEATING_KEY[-12:]),
        (REPEATING_KEY, REPEATING_KEY[-12:] * (SLICE_BYTES // 12)),
        (REPEATING_KEY, ("a" * 500 + "b7") * (SLICE_BYTES // 502)),
        (REPEATING_KEY, "\\" * SLICE_BYTES + REPEATING_KEY[-12:]),
        (REPEATING_KEY, "\\a" * (SLICE_BYTES // 2) + REPEATING_KEY[-12:]),
        (EVERY_KEY, "\\u" * (SLICE_BYTES // 2)),
        (EVERY_KEY, "\\u00ff" * (SLICE_BYTES // 6)),
        (EVERY_KEY, "\\/" * (SLICE_BYTES // 2)),
        (EVERY_KEY, "&#0" * (SLICE_BYTES // 3)),
    ],
)
def test_a_text_like_the_key_is_searched_without_work_for_each_of_its_places(key: str, said: str) -> None:
    secrets, work = CredentialFilter([key]), Work()
    calls = calls_of(lambda: secrets.whole(said.encode(), work))
    assert calls < 250
    assert MAX_WORK - work.left <= 64


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (REPEATING_KEY, "\\u0061"),
        (EVERY_KEY, "%41"),
        (EVERY_KEY, "%25"),
        (EVERY_KEY, "&amp;"),
        ("tenant-1", "tenant-1"),
        ("tenant-1", "tenant\\u002d1"),
    ],
)
def test_an_answer_full_of_the_keys_escapes_is_refused_after_a_bounded_work(key: str, said: str) -> None:
    secrets = CredentialFilter([key])

    def refused(count: int) -> None:
        with pytest.raises(UnreadableResponse):
            secrets.whole(said.encode() * count)

    few, many = calls_of(lambda: refused(MAX_WORK + 1)), calls_of(lambda: refused(8 * MAX_WORK))
    assert many <= few + 64
    event = SseParser().feed(b"data: " + said.encode() * 128 + b"\n\n")
    stream = secrets.stream()
    stream.take(event)

    def take_more() -> None:
        for _ in range(MAX_WORK // 128):
            stream.take(event)

    with pytest.raises(UnreadableResponse):  # together they are too much
        take_more()


def test_a_key_without_escapes_is_hidden_in_a_text_full_of_others() -> None:
    said = "你好 </a> \n".encode("ascii", "backslashreplace") * 20_000
    assert CredentialFilter([KEY]).whole(said) is said
    assert CredentialFilter([KEY]).whole(said + b"\\u0073k-test-openai-canary") == said + "…".encode()


@pytest.mark.parametrize(
    "name", sorted(WRITTEN.keys() - {"with one character escaped in JSON", "with slashes escaped"})
)
def test_a_key_of_hardly_more_than_backslashes_hides_nothing_else(name: str) -> None:
    write = WRITTEN[name]
    key = "\\\\\\\\ab/c"
    said = f"read ab/c and {write(key)}."
    hidden = CredentialFilter([key]).whole(said.encode()).decode()
    assert hidden.startswith("read ab/c and ")
    assert write(key) not in hidden


def test_a_large_event_is_searched_and_the_key_in_it_hidden() -> None:
    said = delta("x" * 2 * SLICE_BYTES + KEY)
    sent, held = filtered(CredentialFilter([KEY]), [delta("a"), said, delta("b")])
    assert texts_of(sent + held) == "a" + "x" * 2 * SLICE_BYTES + "…b"


@pytest.mark.parametrize("key", ["\\b-c/d-e/f-7", '"b-c/d-e/f-7', "/b-c/d-e/f-7", 'b-c/d-e/f-7"'])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_answer_in_json_is_json_after_its_key_is_hidden(key: str, times: int) -> None:
    said: object = {"text": key}
    for _ in range(times):
        said = json.dumps(said)
    hidden: object = CredentialFilter([key]).whole(str(said).encode()).decode()
    for _ in range(times):
        hidden = json.loads(str(hidden))
    assert hidden == {"text": "…"}
