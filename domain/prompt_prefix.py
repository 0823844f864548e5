"""Knows a prompt again that begins as an earlier one did: an agent sends its whole history with every request.

A chain of digests stands for the prompt: one of everything that comes before the conversation, then one for each item
of it. Where two requests have a digest in common, the provider counted that much once already. Pure; the processes'
memory of it is `api/prompt_memory.py`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

LEAST_TOKENS = 8_192
"""A prompt whose bound is less than this is not looked up: its bound is a few cents at most."""
MARGIN_TOKENS = 256
"""For what a provider may count otherwise in a longer prompt: where two texts meet, what it says about the window."""
MARGIN_TOKENS_PER_ITEM = 32
TOKENS_PER_INSTRUCTION = 64
OTHER_TOKENIZER_PERCENT = 160
"""Of what one tokenizer counts, for another: of code and European texts they differ by 1.35 times (`bench/tokens.py`).
"""
MOST_BYTES_PER_TOKEN = 32
"""No prompt has fewer tokens than one in so many bytes. A provider that reports less reported no true number."""
KNOWN_ITEMS = 4
"""The digests at the end of a prompt that are remembered: clients change the last items of what they send again."""
DIGEST_BYTES = 16

_ITEM_FIELDS = ("messages", "input")
_INSTRUCTION_FIELDS = ("system", "instructions")
_SILENT_FIELDS = frozenset(
    {
        "model",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "maxTokens",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "topP",
        "top_k",
        "stop",
        "stop_sequences",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "metadata",
        "client_metadata",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "store",
        "service_tier",
        "cache_control",
    }
)
"""Fields that add nothing to the prompt. Every other one has to be equal: a tool choice or a thinking budget may."""
_MARK_NAMES = (b'"cache_control"', b'"cacheControl"')
_mark = re.compile(
    rb'"cache_?[cC]ontrol"\s*:\s*(?:null|\{\s*"type"\s*:\s*"ephemeral"\s*(?:,\s*"ttl"\s*:\s*"(?:5m|1h)"\s*)?\})'
).match
"""Clients move these from item to item. In a text there is none: there a quotation mark has a backslash before it."""

_thinking = re.compile(
    rb'"(?:thinking|redacted_thinking|reasoning|reasoning_content|reasoning_details|thinking_blocks|encrypted_content)"'
)

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode


class PromptChain(Struct, frozen=True, kw_only=True):
    """A prompt's digests."""

    digests: tuple[bytes, ...]
    """Of all before the conversation; of that and the first item; and so on, to the whole."""
    instructions: tuple[tuple[bytes, int], ...]
    """The digest of each part of the instructions, and its most tokens: a client may change one each time."""
    unmarked_bytes: int
    """The bytes that the digests leave out."""
    thinking_bytes: tuple[int, ...]
    """For each digest, the bytes of the items before it that have a model's thinking."""


class KnownPrefix(Struct, frozen=True, kw_only=True):
    """A prompt that was counted."""

    tokens: int
    """As its provider reported: read and written caches included."""
    instructions: frozenset[bytes]
    is_whole: bool = False
    """It was the whole prompt. Else more followed, and its provider may have left out what a model thought before that:
    thinking is shown again until the user says something new.
    """


def prompt_chain(scope: Sequence[Any], payload: bytes) -> PromptChain | None:
    """The chain of a request's body; None if it has no list of items.

    `scope` has all that is not in the body and makes another prompt: whose it is, the model, the vendor's headers.
    """
    members = _decode_members(payload)
    items_field = next((name for name in _ITEM_FIELDS if name in members), None)
    if items_field is None or not bytes(members[items_field]).startswith(b"["):
        return None
    reading = _Reading()
    first = reading.digest(msgspec.json.encode(scope))
    for name in sorted(members.keys() - _SILENT_FIELDS):
        if name != items_field and name not in _INSTRUCTION_FIELDS:
            first = reading.digest(first, name.encode(), reading.unmarked(members[name]))
    digests, thinking_bytes = [first], [0]
    for item in _decode_items(members[items_field]):
        written = reading.unmarked(item)
        digests.append(reading.digest(digests[-1], written))
        thinking_bytes.append(thinking_bytes[-1] + (len(written) if _thinking.search(written) else 0))
    return PromptChain(
        digests=tuple(digests),
        instructions=reading.instructions(members),
        unmarked_bytes=reading.unmarked_bytes,
        thinking_bytes=tuple(thinking_bytes),
    )


def counted(chain: PromptChain, tokens: int) -> dict[bytes, KnownPrefix]:
    """What is remembered of a prompt that its provider has counted, by digest: of its start, and of its last items."""
    known = KnownPrefix(tokens=tokens, instructions=frozenset(digest for digest, _ in chain.instructions))
    return by_digest((chain.digests[0], *chain.digests[-KNOWN_ITEMS:]), known)


def by_digest(digests: Sequence[bytes], known: KnownPrefix) -> dict[bytes, KnownPrefix]:
    """What is known by each of these digests, of which the last is that of the whole prompt."""
    return dict.fromkeys(digests, known) | {digests[-1]: replace(known, is_whole=True)}


def is_plausible(tokens: int, text_bound: int) -> bool:
    """False if a provider cannot have counted so few tokens of a prompt whose texts have this bound."""
    return tokens * MOST_BYTES_PER_TOKEN >= text_bound


def bound_after(
    chain: PromptChain, known: Mapping[bytes, KnownPrefix], item_tokens: Sequence[int], *, is_same_tokenizer: bool
) -> int | None:
    """The most tokens of a prompt by the longest of its prefixes that is known; None if none is.

    `item_tokens`: the most tokens of each item, for those that were added. An item that the known prompt had and this
    one has not only makes the bound higher, but for what it made the provider leave out (`KnownPrefix.is_whole`).
    `is_same_tokenizer`: False for a provider that may have another model, or another seller, answer each time.
    """
    for position in range(len(chain.digests) - 1, -1, -1):
        prefix = known.get(chain.digests[position])
        if prefix is not None:
            added = item_tokens[position:]
            new = _new_instructions(chain, prefix)
            margin = MARGIN_TOKENS + MARGIN_TOKENS_PER_ITEM * len(added)
            counted_by_another = -(-prefix.tokens * OTHER_TOKENIZER_PERCENT // 100)
            prefix_tokens = prefix.tokens if is_same_tokenizer else counted_by_another
            shown_again = 0 if prefix.is_whole else chain.thinking_bytes[position]
            return prefix_tokens + shown_again + sum(added) + new + chain.unmarked_bytes + margin
    return None


def replaces(new: KnownPrefix, old: KnownPrefix | None) -> bool:
    """True if a prefix that was counted again is to be known as `new`."""
    if old is None or new.instructions != old.instructions:
        return True
    return new.is_whole if new.is_whole != old.is_whole else new.tokens < old.tokens


def _new_instructions(chain: PromptChain, prefix: KnownPrefix) -> int:
    """The most tokens of the instructions that a known prompt did not have, or not twice."""
    left, new = set(prefix.instructions), 0
    for digest, tokens in chain.instructions:
        if digest in left:
            left.remove(digest)
        else:
            new += tokens
    return new


class _Reading:
    """Digests a body's members, without the marks for the provider's cache."""

    def __init__(self) -> None:
        self.unmarked_bytes = 0

    def digest(self, *parts: bytes) -> bytes:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()[:DIGEST_BYTES]

    def unmarked(self, value: Raw) -> bytes:
        written = bytes(value)
        for name in _MARK_NAMES:
            if name in written:
                unmarked = _without_marks(written, name)
                self.unmarked_bytes += len(written) - len(unmarked)
                written = unmarked
        return written

    def instructions(self, members: Mapping[str, Raw]) -> tuple[tuple[bytes, int], ...]:
        found = []
        for name in _INSTRUCTION_FIELDS:
            if name in members:
                written = bytes(members[name])
                parts = _decode_items(written) if written.startswith(b"[") else [members[name]]
                found += [self.unmarked(part) for part in parts]
        return tuple((self.digest(part), len(part) + TOKENS_PER_INSTRUCTION) for part in found)


def _without_marks(written: bytes, name: bytes) -> bytes:
    pieces, position, at = [], 0, written.find(name)
    while at >= 0:
        mark = _mark(written, at)
        if mark is not None:
            pieces.append(written[position:at].rstrip().removesuffix(b","))
            position = mark.end()
        at = written.find(name, at + len(name))
    return b"".join((*pieces, written[position:]))
