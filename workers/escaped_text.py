"""Reads a text whose characters may be escaped as JSON, a URL or HTML escapes them, and tells where each one stood.

Linear in the text, whatever it is: one pass over the escapes of the characters that are asked for, counted as work.
All backslashes are left out as well, since JSON inside JSON doubles them.
"""

import html
import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import quote

from domain.dialects.errors import UnreadableResponse

MAX_WORK = 16 * 1024
"""In one answer or stream: escapes that are read, and secrets that are found."""
MAX_ESCAPES = 8
"""Of one character: the backslashes before it, of which JSON inside JSON has two, the `25` behind a percent sign, the
`amp;` behind an ampersand."""
BLOCK_BYTES = 4 * 1024
"""So much is skipped at a time on the way to a place."""
_BACKSLASH = ord("\\")
_ESCAPED_ALONE = '/"\\'
"""JSON escapes these with a backslash alone."""


class Work:
    """How much is still done for one answer or stream. Its provider and the caller's key choose what it asks for."""

    def __init__(self) -> None:
        self.left = MAX_WORK

    def spend(self, steps: int = 1) -> None:
        """Count some of it.

        Raises:
            UnreadableResponse: it was too much.

        """
        self.left -= steps
        if self.left < 0:
            raise UnreadableResponse("it repeats or escapes what its request's key has too often")


class Escapes:
    """The escapes of some characters."""

    def __init__(self, characters: set[str]) -> None:
        json_codes = {b"%04x" % ord(character): character.encode() for character in characters}
        url_codes = {b"%02x" % byte: bytes((byte,)) for character in characters for byte in character.encode()}
        decimal = {b"%d" % ord(character): character.encode() for character in characters}
        hexadecimal = {b"%x" % ord(character): character.encode() for character in characters}
        names = {html.escape(c)[1:-1].encode(): c.encode() for c in characters if html.escape(c) != c}
        self._read: tuple[dict[bytes, bytes], ...] = ({}, json_codes, url_codes, decimal, hexadecimal, names)
        self._pattern = re.compile(
            rb"\\u(%b)|%%(?:25){0,%d}(%b)|&(?:amp;){0,%d}(?:#0{0,4}(%b)|#[xX]0{0,4}(%b)|(%b));"
            % (
                _any(json_codes),
                MAX_ESCAPES,
                _any(url_codes),
                MAX_ESCAPES,
                _any(decimal),
                _any(hexadecimal),
                b"|".join(map(re.escape, names)) or b"(?!)",
            )
        )
        alone = "".join(sorted(characters & set(_ESCAPED_ALONE)))
        self._alone = re.compile(rb"\\[%b]" % re.escape(alone.encode())) if alone else None

    def are_in(self, said: bytes) -> bool:
        """Return whether a text has one of them."""
        if b"\\" in said:
            if self._alone is not None and self._alone.search(said) is not None:
                return True
        elif b"%" not in said and b"&" not in said:
            return False
        return self._pattern.search(said) is not None

    def read(self, said: bytes, work: Work) -> "ReadText":
        """Read a text.

        Raises:
            UnreadableResponse: it has too many of them.

        """
        pieces, ours, theirs, size, last = list[bytes](), [0], [0], 0, 0
        for match in self._pattern.finditer(said):
            work.spend()
            start, end = match.span()
            group = match.lastindex or 0
            character = self._read[group][match[group].lower()]
            pieces += (said[last:start], character)
            size += start - last
            ours += (size, size + len(character))
            theirs += (start, end)
            size, last = size + len(character), end
        pieces.append(said[last:])
        return ReadText(b"".join(pieces), ours, theirs)


class ReadText:
    """A text without escapes: `plain`. It knows where each byte of it stood."""

    def __init__(self, unescaped: bytes, ours: list[int], theirs: list[int]) -> None:
        """`ours` are the places where, in turn, bytes as they came and escaped ones begin; `theirs` in the text."""
        self._unescaped, self._ours, self._theirs = unescaped, ours, theirs
        self.plain = unescaped.replace(b"\\", b"")
        self._passed = 0, 0

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where some bytes of `plain` stood. Each call is for bytes behind those before, or begins anew."""
        begins, _ = self._stood(self._with_backslashes(start))
        _, ends = self._stood(self._with_backslashes(end - 1))
        return begins, ends

    def _with_backslashes(self, place: int) -> int:
        """The place in the text that has its backslashes still."""
        if len(self.plain) == len(self._unescaped):
            return place
        begin, passed = self._passed if self._passed[1] <= place else (0, 0)
        step = BLOCK_BYTES
        while step:  # in blocks, and in the last one by halves
            count = step - self._unescaped.count(b"\\", begin, begin + step)
            if passed + count <= place:
                begin, passed = begin + step, passed + count
            else:
                step //= 2
        self._passed = begin, passed
        return begin

    def _stood(self, place: int) -> tuple[int, int]:
        part = bisect_right(self._ours, place) - 1
        if part % 2:
            return self._theirs[part], self._theirs[part + 1]
        begin = self._theirs[part] + place - self._ours[part]
        return begin, begin + 1


def escaped_forms(text: str) -> set[bytes]:
    """A text with the escapes that it needs, once and twice, and with all of its characters escaped."""
    forms = set[str]()
    for escape in (lambda plain: json.dumps(plain)[1:-1], lambda plain: quote(plain, safe=""), html.escape):
        once = escape(text)
        forms |= {once, escape(once)}
    for each in ("\\u%04x", "\\u%04X", "&#%d;", "&#x%x;"):
        forms.add("".join(each % ord(character) for character in text))
    for each in ("%%%02x", "%%%02X"):
        forms.add("".join(each % byte for byte in text.encode()))
    return {form.encode() for form in forms}


def with_backslashes_around(said: bytes, start: int, end: int, *, after: bool) -> tuple[int, int]:
    """Widen a span by the backslashes before it, and after it if asked: none stays that would escape what follows."""
    for _ in range(MAX_ESCAPES):
        if start and said[start - 1] == _BACKSLASH:
            start -= 1
        if after and end < len(said) and said[end] == _BACKSLASH:
            end += 1
    return start, end


def _any(codes: Iterable[bytes]) -> bytes:
    """The pattern of any of these codes, in either case. Fast: those that differ in the last digit are one branch."""
    last_digits = defaultdict[bytes, bytes](bytes)
    for code in sorted(codes):
        last_digits[code[:-1]] += _either_case(code[-1:])
    branches = (
        b"".join(b"[%b]" % _either_case(prefix[at : at + 1]) for at in range(len(prefix))) + b"[%b]" % digits
        for prefix, digits in last_digits.items()
    )
    return b"(?:%b)" % b"|".join(branches)


def _either_case(digit: bytes) -> bytes:
    return digit + digit.upper() if digit.isalpha() else digit
