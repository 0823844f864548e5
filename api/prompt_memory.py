"""The token counts that providers reported for prompts, in the memory of an API process that tells the others.

If a count is lost, the prompt is bounded by its bytes again, which is higher. Of a prompt only digests are kept.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import msgspec
from cachetools import TTLCache
from msgspec import Meta, Struct
from msgspec.structs import replace

from domain.prompt_prefix import (
    KnownPrefix,
    PromptChain,
    bound_after,
    by_digest,
    counted,
    is_plausible,
    replaces,
)

MAX_PREFIXES = 50_000
"""Some 20 MB: a request adds five at most."""
TTL_S = 6 * 3600
"""A model's name may come to mean another model, which counts otherwise."""


class Counted(Struct, frozen=True):
    """A prompt's count as it is told to other processes."""

    digests: Annotated[list[bytes], Meta(min_length=1)]
    """The last is that of the whole prompt."""
    prefix: KnownPrefix


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Counted).decode


class PromptMemory:
    """The prompts that one process knows. Requests are bounded in several threads."""

    def __init__(
        self, tell: Callable[[bytes], Awaitable[None]], *, timer: Callable[[], float] = time.monotonic
    ) -> None:
        """Send what the others are to know by `tell`. `timer`: seconds."""
        self._tell = tell
        self._known: TTLCache[bytes, KnownPrefix] = TTLCache(MAX_PREFIXES, TTL_S, timer=timer)
        self._lock = threading.Lock()

    def bound(self, chain: PromptChain, item_tokens: Sequence[int], *, is_same_tokenizer: bool = True) -> int | None:
        """The most tokens of a prompt by what is known; None if nothing is. `item_tokens`: of each of its items.

        `is_same_tokenizer`: as `bound_after`.
        """
        with self._lock:
            known = {digest: prefix for digest in chain.digests if (prefix := self._known.get(digest)) is not None}
        return bound_after(chain, known, item_tokens, is_same_tokenizer=is_same_tokenizer)

    async def remember(self, chain: PromptChain, tokens: int, *, text_bound: int) -> None:
        """Remember that a provider has counted a prompt as so many tokens. `text_bound`: the most of its texts."""
        if not is_plausible(tokens, text_bound):
            return
        found = counted(chain, tokens)
        self._keep(found)
        digests = list(found)
        await self._tell(_encode(Counted(digests, replace(found[digests[-1]], is_whole=False))))

    def take(self, told: str) -> None:
        """Keep what another process has been told."""
        try:
            came = _decode(told)
        except msgspec.MsgspecError:  # of a process that runs another version
            return
        self._keep(by_digest(came.digests, came.prefix))

    def _keep(self, found: dict[bytes, KnownPrefix]) -> None:
        with self._lock:
            for digest, prefix in found.items():
                if replaces(prefix, self._known.get(digest)):
                    self._known[digest] = prefix
