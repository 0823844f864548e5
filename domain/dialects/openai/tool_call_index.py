"""Gives each piece of a streamed tool call the index of its call.

OpenAI numbers calls by `index`. Some providers that speak alike (Gemini's endpoint) leave it out, or give every call
the same: a call then begins with its id.
"""

from msgspec import Struct


class _Call(Struct, kw_only=True):
    index: int
    id: str | None


class ToolCallIndex:
    """The calls of one message so far."""

    def __init__(self) -> None:
        self._said: dict[int | None, _Call] = {}
        """By the provider's index: the call that began last with it."""
        self._last: _Call | None = None
        self._taken: set[int] = set()
        self._next = 0
        """One more than the highest of those that are taken."""

    def index_of(self, said: int | None, call_id: str | None, *, is_named: bool) -> int:
        """The call's own index. `is_named`: the piece names the function, as the first of a call must.

        A new id without a name begins nothing: some servers give one to every piece.
        """
        known = self._said.get(said, None if is_named else self._last)
        if known is None or (is_named and _is_another(known, said, call_id)):
            known = self._said[said] = self._last = _Call(index=self._free(said), id=call_id or None)
        elif known.id is None:
            known.id = call_id or None
        return known.index

    def _free(self, wanted: int | None) -> int:
        free = wanted if wanted is not None and wanted not in self._taken else self._next
        self._taken.add(free)
        self._next = max(self._next, free + 1)
        return free


def _is_another(known: _Call, said: int | None, call_id: str | None) -> bool:
    return known.id not in (None, call_id) if call_id else said is None
