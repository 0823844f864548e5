"""The chat completion that a stream of OpenAI's chunks amounts to, as it would have come without streaming."""

from typing import Any

import msgspec

from domain.dialects.assembled import finished, merge
from domain.dialects.openai_calls import CallOrder
from domain.dialects.provider_response import UnreadableResponse

_OF_A_CHUNK_ONLY = frozenset({"choices", "obfuscation", "object"})


class _Choice:
    def __init__(self) -> None:
        self.message: dict[str, Any] = {}
        self.logprobs: dict[str, Any] | None = None
        self.others: dict[str, Any] = {}
        self._calls = CallOrder()

    def add(self, choice: dict[str, Any]) -> None:
        for name, value in choice.items():
            if name == "delta":
                merge(self.message, self._with_indexes(value or {}))
            elif name == "logprobs":
                if isinstance(value, dict):
                    self.logprobs = self.logprobs or {}
                    merge(self.logprobs, value)
            elif value is not None or name not in self.others:
                self.others[name] = value

    def _with_indexes(self, delta: dict[str, Any]) -> dict[str, Any]:
        """The delta, each of its calls with the index that is its own."""
        for call in delta.get("tool_calls") or ():
            is_named = bool(call.get("custom") or (call.get("function") or {}).get("name"))
            call["index"] = self._calls.index_of(call.get("index"), call.get("id"), is_named=is_named)
        return delta

    def whole(self, index: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": None} | finished(self.message)
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
        return {
            "index": index,
            "message": message,
            "logprobs": finished(self.logprobs),
            **{name: value for name, value in self.others.items() if name != "index"},
        }


class OpenAiAssembler:
    """Merges chunks as they come, so that a long stream is kept as text and not as chunks."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        """Take the next chunk, decoded."""
        for name, value in chunk.items():
            if name not in _OF_A_CHUNK_ONLY and (value is not None or name not in self._top):
                self._top[name] = value
        for choice in chunk.get("choices") or ():
            self._choices.setdefault(choice.get("index", 0), _Choice()).add(choice)

    def answer(self) -> bytes:
        """The whole answer.

        Raises:
            UnreadableResponse: no chunk had a choice.

        """
        if not self._choices:
            raise UnreadableResponse("the stream had no choices")
        choices = [choice.whole(index) for index, choice in sorted(self._choices.items())]
        first = {"id": self._top.pop("id", ""), "object": "chat.completion"}
        return msgspec.json.encode(first | self._top | {"choices": choices})
