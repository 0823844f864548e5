"""Hides a secret that a stream's events have in pieces: a delta ends with its beginning, the next ones go on with it.

Only texts of one JSON member after the other are put together, as a client does. Events are held back while their texts
end with at least `HELD_CHARS` of a secret, and sent on with the next event that does not go on with it.
"""

import re
from collections.abc import Sequence
from itertools import islice

import msgspec
from msgspec import Struct

from domain.dialects.sse import SseEvent, SseParser

HELD_CHARS = 6
"""So many characters of a secret, less one, may be sent before it is known for what it is."""
HEAD_CHARS = 4
MAX_EVENTS_BETWEEN = 3
"""Between two pieces may be so many other events: of other choices, or without a text."""
MAX_BEGUN = 64
"""Secrets that may have begun at a time."""
MAX_TEXTS = 64
"""So many texts of an event are read. A delta has about ten, and 21 for each token whose likelihood it tells."""
MAX_READ_BYTES = 256 * 1024
"""So much of an event is read. A delta is small, and what is larger has been searched for whole secrets."""
MAX_STARTS = 64
"""So many places of a text are tried for a secret that begins there. A secret's head stands in few."""

_VALUE = re.compile(rb':\s*+"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
"""A text of a JSON object."""
_ESCAPED = b'"\\'
"""Begins a text whose first character is escaped."""
_decode_text = msgspec.json.Decoder(str).decode


class _Piece(Struct, frozen=True):
    """What a text in an event has of a secret: these of the event's bytes."""

    event: int
    """By its number in the stream."""
    start: int
    end: int


class _Begun(Struct, frozen=True):
    """A secret whose first characters have come."""

    secret: str
    count: int
    pieces: tuple[_Piece, ...]

    @property
    def is_held(self) -> bool:
        """True if what came last must not be sent yet."""
        return self.count >= HELD_CHARS

    def may_go_on(self, number: int, raw: bytes) -> bool:
        """True if this event may have the next piece, or one after it. Cheap: most that has begun is no secret."""
        since = number - self.pieces[-1].event
        if self.is_held:
            return since <= MAX_EVENTS_BETWEEN
        return since == 1 and (b'"' + self.secret[self.count].encode() in raw or _ESCAPED in raw)


class Secret(Struct, frozen=True):
    """A secret to look for, with what it may begin with in an event: `secret_of` makes it."""

    text: str
    head: bytes
    """Its first characters, wherever they stand."""
    end: "re.Pattern[bytes]"
    """A text that ends with fewer of them, as the group."""
    marks: tuple[bytes, ...]
    """What a text begins with that goes on with fewer of them."""

    def may_begin(self, said: bytes) -> bool:
        """True if the secret may begin in these events, and others go on with it."""
        return self.head in said or self.end.search(said) is not None

    def may_go_on_within(self, said: bytes) -> bool:
        """True if the secret may begin in one of these events, and another of them may go on with it."""
        if self.head in said:
            return True
        for mark in self.marks:  # noqa: SIM110 - `any` of a generator takes six calls for each piece of a stream
            if mark in said:
                return True
        return False


def secret_of(text: str) -> Secret:
    """Make a secret of at least `HEAD_CHARS` characters."""
    first, second, third = (re.escape(character.encode()) for character in text[: HEAD_CHARS - 1])
    end = re.compile(rb'(%b(?:%b(?:%b)?)?)"\s*[,}\]]' % (first, second, third))
    marks = tuple(b'"' + character.encode() for character in text[1:HEAD_CHARS])
    return Secret(text, text[:HEAD_CHARS].encode(), end, (*marks, _ESCAPED))


class SplitSecrets:
    """Hides secrets in one stream."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._secrets = secrets
        self._begun: list[_Begun] = []
        self._held: dict[int, SseEvent] = {}
        """By number."""
        self._number = 0

    def take(self, events: list[SseEvent], said: bytes, hidden: bytes) -> list[SseEvent]:
        """Take the next events, whose bytes are `said`. Return those to send now, with `hidden` for a secret."""
        is_large = len(said) > MAX_READ_BYTES
        if not self._begun and not is_large and not any(secret.may_begin(said) for secret in self._secrets):
            return events
        if len(events) > 1 and not is_large and not self._goes_on_within(events[0], said):
            self._number += len(events)
            self._begin(events[-1].raw)
            return events
        for event in events:
            self._number += 1
            self._held[self._number] = event
            self._read(event, hidden)
        first_held = min((begun.pieces[0].event for begun in self._begun if begun.is_held), default=self._number + 1)
        return [self._held.pop(number) for number in list(self._held) if number < first_held]

    def rest(self) -> list[SseEvent]:
        """Return what is held back: the stream has ended."""
        held, self._held, self._begun = list(self._held.values()), {}, []
        return held

    def _read(self, event: SseEvent, hidden: bytes) -> None:
        raw = event.raw[:MAX_READ_BYTES]
        begun = [begun for begun in self._begun if begun.may_go_on(self._number, raw)]
        headed = [secret for secret in self._secrets if secret.head in raw]
        if begun or headed:
            self._begun = self._read_texts(event, begun, hidden)
        else:
            self._begin(raw)

    def _goes_on_within(self, first: SseEvent, said: bytes) -> bool:
        """True if something that has begun before these events or in one of them may go on in one of them."""
        for begun in self._begun:
            if begun.is_held or begun.may_go_on(self._number + 1, first.raw):
                return True
        return any(secret.may_go_on_within(said) for secret in self._secrets)

    def _begin(self, raw: bytes) -> None:
        """Note what the last event begins: it has fewer characters of a secret than its head."""
        following: dict[tuple[str, int], _Begun] = {}
        for secret in self._secrets:
            for match in islice(secret.end.finditer(raw), MAX_TEXTS):
                start, end = match.span(1)
                count, piece = end - start, _Piece(self._number, start, end)
                following.setdefault((secret.text, count), _Begun(secret.text, count, (piece,)))
        self._begun = list(following.values())[:MAX_BEGUN]

    def _read_texts(self, event: SseEvent, begun: list[_Begun], hidden: bytes) -> list[_Begun]:
        """What has begun after this event. A secret that is complete is hidden."""
        following: dict[tuple[str, int], _Begun] = {}
        """By secret and count: what goes on with one of them goes on with each."""
        gone_on = set[int]()
        for match in islice(_VALUE.finditer(event.raw, 0, MAX_READ_BYTES), MAX_TEXTS):
            text = _text(match[1])
            if not text:
                continue
            for place, earlier in enumerate(begun):
                length = min(len(text), len(earlier.secret) - earlier.count)
                if not earlier.secret.startswith(text[:length], earlier.count):
                    continue
                count, piece = earlier.count + length, self._piece(match, text, text[:length])
                if count == len(earlier.secret):
                    self._hide((*earlier.pieces, piece), hidden)
                    return []
                gone_on.add(place)
                if _has_place(following, earlier.secret, count):
                    following[earlier.secret, count] = _Begun(earlier.secret, count, (*earlier.pieces, piece))
            for secret in self._secrets:
                start = _start_at_end(secret.text, text)
                if start and _has_place(following, secret.text, len(start)):
                    piece = self._piece(match, text, start, at_end=True)
                    following[secret.text, len(start)] = _Begun(secret.text, len(start), (piece,))
        waiting = [item for place, item in enumerate(begun) if item.is_held and place not in gone_on]
        return [*following.values(), *waiting][:MAX_BEGUN]

    def _piece(self, match: "re.Match[bytes]", text: str, part: str, *, at_end: bool = False) -> _Piece:
        """The bytes of a part of a text, at its start or its end; all of the text if it has escapes."""
        start, end = match.span(1)
        length = len(part.encode())
        if end - start == len(text.encode()):
            start, end = (end - length, end) if at_end else (start, start + length)
        return _Piece(self._number, start, end)

    def _hide(self, pieces: Sequence[_Piece], hidden: bytes) -> None:
        for piece in pieces:
            event = self._held.get(piece.event)
            if event is not None:  # the first ones may have been sent
                raw = event.raw[: piece.start] + hidden + event.raw[piece.end :]
                self._held[piece.event], hidden = SseParser().feed(raw)[0], b""


def _has_place(following: dict[tuple[str, int], _Begun], secret: str, count: int) -> bool:
    return len(following) < MAX_BEGUN and (secret, count) not in following


def _start_at_end(secret: str, text: str) -> str:
    """The longest start of a secret with which a text ends, if that is not all of it."""
    head, position = secret[:HEAD_CHARS], max(0, len(text) - len(secret) + 1) - 1
    for _ in range(MAX_STARTS):
        position = text.find(head, position + 1)
        if position < 0:
            break
        if secret.startswith(text[position:]):
            return text[position:]
    return next((head[:length] for length in range(HEAD_CHARS - 1, 0, -1) if text.endswith(head[:length])), "")


def _text(value: bytes) -> str:
    try:
        return _decode_text(b'"' + value + b'"') if b"\\" in value else value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
