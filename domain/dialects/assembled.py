"""Merges deltas of any shape into the object that they are pieces of, as OpenAI's wire means them.

Strings are joined, lists of entries with an `index` are merged by it, other lists are joined, objects are merged member
by member; of numbers, and of the few strings that are said whole each time, the last counts. So members that nobody
here has heard of are kept as well. Where a list and strings come for one member, as the content of Mistral's thinking
models does, the strings are text parts of the list.
"""

from collections.abc import Sequence
from typing import Any

from domain.dialects.provider_response import UnreadableResponse

MAX_NESTING = 100
_WHOLE = frozenset({"role", "id", "type", "index", "name", "object"})
"""Strings that providers may repeat but never cut."""


class _Text(list[str]):
    """Pieces of a string: joined once, at the end."""


class _Parts(list[Any]):
    """A list among whose entries are texts still being joined."""


class _Indexed(dict[int, dict[str, Any]]):
    """Entries of a list by their `index`."""


def merge(whole: dict[str, Any], delta: dict[str, Any], depth: int = 0) -> None:
    """Add a delta to what was merged so far. `whole` is readable only through `finished`.

    Raises:
        UnreadableResponse: it has more than `MAX_NESTING` objects inside each other.

    """
    if depth > MAX_NESTING:
        raise UnreadableResponse("a delta is nested too deeply")
    for name, piece in delta.items():
        if piece is None:
            whole.setdefault(name, None)
        elif isinstance(piece, str) and name not in _WHOLE:
            text = whole.get(name)
            if isinstance(text, _Text):
                text.append(piece)
            elif isinstance(text, list):
                whole[name] = _with_text(text, piece)
            else:
                whole[name] = _Text((piece,))
        elif isinstance(piece, dict):
            known = whole.get(name)
            if not isinstance(known, dict) or isinstance(known, _Indexed):
                known = whole[name] = {}
            merge(known, piece, depth + 1)
        elif isinstance(piece, list):
            whole[name] = _merged_list(whole.get(name), piece, depth)
        else:
            whole[name] = piece


def finished(whole: Any) -> Any:
    """What was merged, as plain JSON values."""
    if isinstance(whole, _Text):
        return "".join(whole)
    if isinstance(whole, _Indexed):
        return [finished(entry) for _, entry in sorted(whole.items())]
    if isinstance(whole, dict):
        return {name: finished(value) for name, value in whole.items()}
    return [_finished_part(part) for part in whole] if isinstance(whole, _Parts) else whole


def _finished_part(part: Any) -> Any:
    """A part as it came, or the text that was joined."""
    is_joined = isinstance(part, dict) and isinstance(part.get("text"), _Text)
    return part | {"text": "".join(part["text"])} if is_joined else part


def _merged_list(known: Any, piece: list[Any], depth: int) -> Any:
    if piece and all(isinstance(entry, dict) and isinstance(entry.get("index"), int) for entry in piece):
        indexed = known if isinstance(known, _Indexed) else _Indexed()
        for entry in piece:
            merge(indexed.setdefault(entry["index"], {}), entry, depth + 1)
        return indexed
    if isinstance(known, _Text):
        known = _with_text((), "".join(known))
    if isinstance(known, list):
        known.extend(piece)
        return known
    return known if isinstance(known, _Indexed) else piece


def _with_text(known: Sequence[Any], piece: str) -> _Parts:
    """The list with a string more: in the text that was begun last, if that is its last part."""
    parts = known if isinstance(known, _Parts) else _Parts(known)
    last = parts[-1] if parts else None
    if isinstance(last, dict) and isinstance(last.get("text"), _Text):
        last["text"].append(piece)
    elif piece:
        parts.append({"type": "text", "text": _Text((piece,))})
    return parts
