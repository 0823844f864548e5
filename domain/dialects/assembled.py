"""Merges deltas of any shape into the object that they are pieces of, as OpenAI's wire means them.

Strings are joined, lists of entries with an `index` are merged by it, other lists are joined, objects are merged member
by member; of numbers, and of the few strings that are said whole each time, the last counts. So members that nobody
here has heard of are kept as well.
"""

from typing import Any

_WHOLE = frozenset({"role", "id", "type", "index", "name", "object"})
"""Strings that providers may repeat but never cut."""


class _Text(list[str]):
    """Pieces of a string: joined once, at the end."""


class _Indexed(dict[int, dict[str, Any]]):
    """Entries of a list by their `index`."""


def merge(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to what was merged so far. `whole` is readable only through `finished`."""
    for name, piece in delta.items():
        if piece is None:
            whole.setdefault(name, None)
        elif isinstance(piece, str) and name not in _WHOLE:
            text = whole.get(name)
            if isinstance(text, _Text):
                text.append(piece)
            else:
                whole[name] = _Text((piece,))
        elif isinstance(piece, dict):
            known = whole.get(name)
            if not isinstance(known, dict) or isinstance(known, _Indexed):
                known = whole[name] = {}
            merge(known, piece)
        elif isinstance(piece, list):
            whole[name] = _merged_list(whole.get(name), piece)
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
    return whole


def _merged_list(known: Any, piece: list[Any]) -> Any:
    if piece and all(isinstance(entry, dict) and isinstance(entry.get("index"), int) for entry in piece):
        indexed = known if isinstance(known, _Indexed) else _Indexed()
        for entry in piece:
            merge(indexed.setdefault(entry["index"], {}), entry)
        return indexed
    if isinstance(known, list):
        known.extend(piece)
        return known
    return known if isinstance(known, _Indexed) else piece
