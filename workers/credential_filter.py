"""Keeps the secrets that a provider was called with out of everything that it says: answers, refusals, streams.

A provider may repeat them: a proxy that is being debugged, a page of an error, a server that echoes its headers. All
that a provider says passes here before anything else reads it, so that no caller, event, cache or log line has it.

They are found as they are, with any of their characters escaped as JSON, a URL or HTML escapes it, in base64 (alone or
behind anything) and in hexadecimal. A provider that wants to hide them can, in many other ways: it is called with them
because it is trusted with them. `docs/decisions/0030-what-a-provider-says.md` has the costs.
"""

import base64
from collections.abc import Iterator, Sequence

from domain.dialects.sse import SseEvent, SseParser
from domain.secret_text import is_secret
from workers.escaped_text import Escapes, Work, escaped_forms, with_backslashes_around
from workers.split_secrets import SplitSecrets, secret_of

HIDDEN = "…".encode()
"""Takes the place of a secret."""
PROBE_BYTES = 12
"""So much of a secret is searched for first. A longer needle costs more in a short event."""
SLICE_BYTES = 256 * 1024
"""So much is searched at a time: other threads have their turn in between."""
MAX_ESCAPED_BYTES = 48
"""Of one character."""
ESCAPED_WORK = 64
"""What a secret with escapes counts as: its place is searched for."""


class CredentialFilter:
    """Hides the secrets of one credential. Shared by the calls that are made with it."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """`secrets` may have texts that are none: they are not hidden."""
        texts = sorted({text for text in secrets if is_secret(text)}, key=len, reverse=True)
        self.secrets = tuple(map(secret_of, texts))
        self._keys = tuple(text.encode() for text in texts)
        self._escapes = Escapes(set("".join(texts)))
        forms = [form for key in self._keys for form in (key, *_encoded(key))]
        self._needles = list[tuple[bytes, bool]]()
        """Secrets without escapes and backslashes, and whether a backslash is their last character."""
        for text in texts:
            needles = {self._escapes.read(text.encode(), Work()).plain, text.replace("\\", "").encode()}
            if all(is_secret(needle.decode(errors="replace")) for needle in needles):
                self._needles += ((needle, text.endswith("\\")) for needle in needles)
            else:  # little is left of it, which answers may well have
                forms += escaped_forms(text)
        self._forms = tuple(dict.fromkeys(forms))
        self._probes = tuple({form[-PROBE_BYTES:] for form in self._forms})
        self._overlap = max(map(len, self._keys), default=0) * MAX_ESCAPED_BYTES

    def whole(self, said: bytes, work: Work | None = None) -> bytes:
        """Return what a provider said without the secrets; the same bytes if it has none of them.

        `work` is that of the stream of which it is a part.

        Raises:
            UnreadableResponse: it would take too long.

        """
        if not self._keys or (len(said) <= SLICE_BYTES and not self.suspects(said)):
            return said
        work, pieces, last = work or Work(), list[bytes](), 0
        for start, end in sorted(self._spans(said, work)):
            if start >= last:
                pieces += (said[last:start], HIDDEN)
            last = max(last, end)
        return b"".join((*pieces, said[last:])) if pieces else said

    def stream(self) -> "StreamFilter":
        """Return a filter for the events of one stream."""
        return StreamFilter(self)

    def suspects(self, said: bytes) -> bool:
        """Return whether a text may have a secret. None that has one is missed."""
        for probe in self._probes:
            if probe in said:
                return True
        return self._escapes.are_in(said)

    def _spans(self, said: bytes, work: Work) -> Iterator[tuple[int, int]]:
        """Where the secrets are; some may be told twice. Each slice has so much of the next that none is cut."""
        for begin in range(0, len(said), SLICE_BYTES):
            part = said if len(said) <= SLICE_BYTES else said[begin : begin + SLICE_BYTES + self._overlap]
            if self.suspects(part):
                for start, end in self._spans_of_slice(part, work):
                    if start < SLICE_BYTES:
                        yield begin + start, begin + end

    def _spans_of_slice(self, said: bytes, work: Work) -> Iterator[tuple[int, int]]:
        for form in self._forms:
            for start in _places(said, form):
                work.spend()
                after = form.endswith(b"\\")
                is_escaped = after or form.startswith((b"\\", b'"', b"/"))
                span = start, start + len(form)
                yield with_backslashes_around(said, *span, after=after) if is_escaped else span
        if not self._escapes.are_in(said):
            return
        for key in self._keys:  # those are found
            said = said.replace(key, b"\0" * len(key))
        read = self._escapes.read(said, work)
        for needle, ends_with_backslash in self._needles:
            for start in _places(read.plain, needle):
                work.spend(ESCAPED_WORK)
                span = read.span(start, start + len(needle))
                yield with_backslashes_around(said, *span, after=ends_with_backslash)


class StreamFilter:
    """Hides secrets in one stream: in its events, and in the texts that their deltas make together."""

    def __init__(self, secrets: CredentialFilter) -> None:
        self._filter = secrets
        self._split = SplitSecrets(secrets.secrets) if secrets.secrets else None
        self._work = Work()

    def take(self, events: list[SseEvent]) -> list[SseEvent]:
        """Take the next events. Return those that may be sent on, without the secrets; the last may come later.

        Raises:
            UnreadableResponse: the stream would take too long.

        """
        if self._split is None:
            return events
        said = events[0].raw if len(events) == 1 else b"".join([event.raw for event in events])
        if len(said) > SLICE_BYTES or self._filter.suspects(said):
            events = [self._without(event) for event in events]
        return self._split.take(events, said, HIDDEN)

    def rest(self) -> list[SseEvent]:
        """Return the events that are still held back: no other follows."""
        return self._split.rest() if self._split is not None else []

    def _without(self, event: SseEvent) -> SseEvent:
        raw = self._filter.whole(event.raw, self._work)
        return event if raw is event.raw else SseParser().feed(raw)[0]


def _encoded(key: bytes) -> Iterator[bytes]:
    """A secret in hexadecimal and in base64, without the ends that depend on what stands around it."""
    yield key.hex().encode()
    yield key.hex().upper().encode()
    for skipped in range(3):
        whole = key[skipped : skipped + (len(key) - skipped) // 3 * 3]
        yield base64.b64encode(whole)
        yield base64.urlsafe_b64encode(whole)


def _places(said: bytes, needle: bytes) -> Iterator[int]:
    place = said.find(needle)
    while place >= 0:
        yield place
        place = said.find(needle, place + len(needle))
