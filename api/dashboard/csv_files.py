"""Tables as CSV (RFC 4180). A spreadsheet takes no text in them for a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

CSV = "text/csv; charset=utf-8"
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the same signs in full width, which spreadsheets take for them."""
_CONTROL_STARTS = ("\t", "\r", "\n")
_INVISIBLE = "\x00\ufeff\u200b"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def _field(value: Any) -> Any:
    """Texts that begin like a formula get an apostrophe in front (OWASP, CSV injection). Numbers stay numbers."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and _is_like_a_formula(value) else value


def _is_like_a_formula(text: str) -> bool:
    if _NUMBER.fullmatch(text):
        return False
    seen = text.lstrip().lstrip(_INVISIBLE).lstrip()
    return text.startswith(_CONTROL_STARTS) or seen.startswith(_FORMULA_STARTS)
