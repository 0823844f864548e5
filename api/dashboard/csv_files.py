"""Tables as CSV (RFC 4180). A spreadsheet takes no text in them for a formula.

Every table of a page has a link to its lines as CSV. `CsvTable` is such a file: its columns, each with what it has of
a line.
"""

import csv
import io
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Generic, TypeVar

from litestar import Response
from litestar.response import Stream

from api.dashboard.rendering import download, download_in_pieces
from domain.json_numbers import in_full

CSV = "text/csv"
MAX_ROWS_AT_ONCE = 2_000
"""The most rows of a table that is written in one piece, because nobody else is served meanwhile. A longer table is
sent in pieces.
"""
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the same signs in full width, which spreadsheets take for them."""
_CONTROL_STARTS = ("\t", "\r", "\n")
_INVISIBLE = "\x00\ufeff\u200b"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)


Line = TypeVar("Line")


class CsvTable(Generic[Line]):
    """A kind of file: its name, of our own words, and its columns by their names."""

    def __init__(self, file_name: str, columns: Mapping[str, Callable[[Line], Any]]) -> None:
        """`columns`: what each has of a line; None is an empty field."""
        self.file_name = file_name
        self._header = tuple(columns)
        self._values = tuple(columns.values())

    def download(self, lines: Iterable[Line]) -> Response[bytes]:
        """The file, made at once: of at most `MAX_ROWS_AT_ONCE` lines."""
        return download(csv_text(self._header, self._rows(lines)), media_type=CSV, file_name=self.file_name)

    def download_in_pieces(self, pages: AsyncIterable[Iterable[Line]]) -> Stream:
        """The file, a page of lines at a time."""
        pieces = csv_pieces(self._header, (self._rows(lines) async for lines in pages))
        return download_in_pieces(pieces, media_type=CSV, file_name=self.file_name)

    def _rows(self, lines: Iterable[Line]) -> Iterable[Sequence[Any]]:
        return ([value(line) for value in self._values] for line in lines)


async def csv_pieces(header: Sequence[str], pages: AsyncIterable[Iterable[Sequence[Any]]]) -> AsyncIterator[bytes]:
    """A table as CSV, a page of rows at a time."""
    yield csv_text(header, ()).encode()
    async for rows in pages:
        yield _lines(rows).encode()


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; None is an empty field."""
    return _lines([header]) + _lines(rows)


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def _field(value: Any) -> Any:
    """A value as text: numbers with all their digits, times as ISO 8601 has them. Texts that begin like a formula get
    an apostrophe in front (OWASP, CSV injection).
    """
    match value:
        case None:
            return ""
        case Decimal():
            return in_full(value)
        case float():
            return in_full(Decimal(repr(value)))
        case date():
            return value.isoformat()
        case str() if _is_like_a_formula(value):
            return f"'{value}"
    return value


def _is_like_a_formula(text: str) -> bool:
    if _NUMBER.fullmatch(text):
        return False
    seen = text.lstrip().lstrip(_INVISIBLE).lstrip()
    return text.startswith(_CONTROL_STARTS) or seen.startswith(_FORMULA_STARTS)
