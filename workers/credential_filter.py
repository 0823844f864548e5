"""Keeps the secrets that a provider was called with out of everything that it says: answers, refusals, streams.

A provider may repeat them: a proxy that is being debugged, a page of an error, a server that echoes its headers. All
that a provider says passes here before anything else reads it, so that no caller, event, cache or log line has it.

They are found as they are, with any of their characters escaped as JSON, a URL or HTML escapes it, in base64 (alone or
behind anything) and in hexadecimal. A provider that wants to hide them can, in many other ways: it is called with them
because it is trusted with them. `docs/decisions/0030-what-a-provider-says.md` has the costs.
"""

import base64
import html
import re
from collections.abc import Iterator, Sequence

from domain.dialects.sse import SseEvent, SseParser
from domain.secret_text import is_secret
from workers.split_secrets import SplitSecrets, secret_of

HIDDEN = "…".encode()
"""Takes the place of a secret."""
PROBE_BYTES = 12
"""So much of a secret is searched for first. A longer needle costs more in a short event."""
SLICE_BYTES = 256 * 1024
"""So much is searched at a time: other threads have their turn in between."""
MAX_ESCAPES = 8
"""Of one character: the backslashes before it, of which JSON inside JSON has two, the `25` behind a percent sign, the
`amp;` behind an ampersand."""
MAX_ESCAPED_BYTES = 48
"""Of one character."""
_ESCAPED_ALONE = '/"\\'
"""JSON escapes these with a backslash alone."""


class CredentialFilter:
    """Hides the secrets of one credential. Shared by the calls that are made with it."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """`secrets` may have texts that are none: they are not hidden."""
        texts = sorted({text for text in secrets if is_secret(text)}, key=len, reverse=True)
        self.secrets = tuple(map(secret_of, texts))
        keys = [text.encode() for text in texts]
        self._encoded = tuple(form for key in keys for form in _encoded(key))
        self._probes = tuple({form[-PROBE_BYTES:] for form in (*keys, *self._encoded)})
        self._pattern = re.compile(b"|".join(map(_spelled, texts))) if texts else None
        self._escape = re.compile(_any_escape(set("".join(texts))))
        self._overlap = max((len(key) for key in keys), default=0) * MAX_ESCAPED_BYTES

    def whole(self, said: bytes) -> bytes:
        """Return what a provider said without the secrets; the same bytes if it has none of them."""
        if self._pattern is None or not any(map(self.suspects, self._slices(said))):
            return said
        pieces, last = list[bytes](), 0
        for start, end in self._matches(self._pattern, said):
            pieces += (said[last:start], HIDDEN)
            last = end
        said = b"".join((*pieces, said[last:])) if pieces else said
        for form in self._encoded:
            said = said.replace(form, HIDDEN)
        return said

    def stream(self) -> "StreamFilter":
        """Return a filter for the events of one stream."""
        return StreamFilter(self)

    def suspects(self, said: bytes) -> bool:
        """Return whether a text may have a secret. None that has one is missed."""
        for probe in self._probes:
            if probe in said:
                return True
        return (b"\\" in said or b"%" in said or b"&" in said) and self._escape.search(said) is not None

    def _slices(self, said: bytes) -> Iterator[bytes]:
        """The slices of a text, each with so much of the next that no secret is cut."""
        if len(said) <= SLICE_BYTES:
            return iter((said,))
        return (said[start : start + SLICE_BYTES + self._overlap] for start in range(0, len(said), SLICE_BYTES))

    def _matches(self, pattern: "re.Pattern[bytes]", said: bytes) -> Iterator[tuple[int, int]]:
        position = 0
        for start in range(0, len(said), SLICE_BYTES):
            position, end = max(position, start), start + SLICE_BYTES
            while position < end and (match := pattern.search(said, position, end + self._overlap)) is not None:
                yield match.span()
                position = match.end()


class StreamFilter:
    """Hides secrets in one stream: in its events, and in the texts that their deltas make together."""

    def __init__(self, secrets: CredentialFilter) -> None:
        self._filter = secrets
        self._split = SplitSecrets(secrets.secrets) if secrets.secrets else None

    def take(self, events: list[SseEvent]) -> list[SseEvent]:
        """Take the next events. Return those that may be sent on, without the secrets; the last may come later."""
        if self._split is None:
            return events
        said = events[0].raw if len(events) == 1 else b"".join([event.raw for event in events])
        if self._filter.suspects(said):
            events = [self._without(event) for event in events]
        return self._split.take(events, said, HIDDEN)

    def rest(self) -> list[SseEvent]:
        """Return the events that are still held back: no other follows."""
        return self._split.rest() if self._split is not None else []

    def _without(self, event: SseEvent) -> SseEvent:
        raw = self._filter.whole(event.raw)
        return event if raw is event.raw else SseParser().feed(raw)[0]


def _encoded(key: bytes) -> Iterator[bytes]:
    """A secret in hexadecimal and in base64, without the ends that depend on what stands around it."""
    yield key.hex().encode()
    yield key.hex().upper().encode()
    for skipped in range(3):
        whole = key[skipped : skipped + (len(key) - skipped) // 3 * 3]
        yield base64.b64encode(whole)
        yield base64.urlsafe_b64encode(whole)


def _spelled(text: str) -> bytes:
    """The pattern of a secret, with any of its characters escaped, possibly more than once."""
    return b"".join(map(_spelled_character, text))


def _spelled_character(character: str) -> bytes:
    plain, again = re.escape(character.encode()), b"{0,%d}" % MAX_ESCAPES
    in_json = _in_json(character) + (b"|" + plain if character in _ESCAPED_ALONE else b"")
    in_url = b"".join(b"%%(?:25)%b%b" % (again, _hex(byte)) for byte in character.encode())
    in_html = rb"&(?:amp;)%b(?:%b);" % (again, _in_html(character))
    return rb"(?:%b|\\{1,%d}(?:%b)|%b|%b)" % (plain, MAX_ESCAPES, in_json, in_url, in_html)


def _any_escape(characters: set[str]) -> bytes:
    """The pattern of an escape, or of its end, of any of these characters."""
    alone = [re.escape(character.encode()) for character in characters if character in _ESCAPED_ALONE]
    in_json = b"|".join((*map(_in_json, characters), *alone))
    in_url = b"|".join(map(_hex, {byte for character in characters for byte in character.encode()}))
    in_html = b"|".join(map(_in_html, characters))
    return rb"\\(?:%b)|%%(?:25|%b)|&(?:amp;|(?:%b);)" % (in_json, in_url, in_html)


def _in_json(character: str) -> bytes:
    return b"u" + _either_case(b"%04x" % ord(character))


def _in_html(character: str) -> bytes:
    code, name = ord(character), html.escape(character)[1:-1]
    return b"#0{0,4}%d|#[xX]0{0,4}%b" % (code, _either_case(b"%x" % code)) + (b"|" + name.encode() if name else b"")


def _hex(byte: int) -> bytes:
    return _either_case(b"%02x" % byte)


def _either_case(digits: bytes) -> bytes:
    """The pattern of hexadecimal digits. Faster than one that ignores case."""
    return b"".join(b"[%c%c]" % (digit, digit - 32) if digit >= ord("a") else b"%c" % digit for digit in digits)
