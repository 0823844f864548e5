"""The most that a request can cost, and what has to be lowered for it to fit into less.

Tokens at the dearest price of the classes that they can be counted as, every use of a hosted tool at its fee and at one
more reading of the whole context. Never below what the provider will bill: `domain/estimate.py` bounds the tokens.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from domain.hosted_tools import NO_TOOLS, HostedTools
from domain.money import NanoUsd, divide_up
from domain.pricing import (
    AUDIO_CLASSES,
    OUTPUT_CLASSES,
    TEXT_CLASSES,
    TOKENS_PER_PRICE,
    ContextTier,
    Fee,
    Price,
    dearest,
    on_terms,
)


class Hold(Struct, frozen=True, kw_only=True):
    """What the hold of a request is computed from."""

    price: Price
    """The dearest of the terms on which the request may be served."""
    input_tokens: int
    audio_tokens: int = 0
    """Those of the input that may be audio."""
    writes_audio: bool = False
    predicted_tokens: int = 0
    """Of a predicted answer: charged as output beside the answer."""
    summary_reading_tokens: int = 0
    summary_tokens: int = 0
    """What is read and written to summarize the context: once, and again for each reading after a tool."""
    context_window: int
    """The most that the model reads at a time."""
    tools: HostedTools = NO_TOOLS

    @property
    def unpriced(self) -> str | None:
        """A part of the request that has no known price."""
        if self.audio_tokens and dearest(self.price, AUDIO_CLASSES) is None:
            return "input_audio"
        if self.writes_audio and dearest(self.price, OUTPUT_CLASSES) is None:
            return "audio"
        return self.tools.unpriced(self.price)

    def nano_usd(self, output_tokens: int, calls: int) -> NanoUsd:
        """The most that it costs with so much output and so many calls of hosted tools, rounded up."""
        output_price, fees = self._output_price(), self._of_each_request()
        exact = self._beside_answer(calls, output_price, len(fees)) + output_tokens * output_price
        return NanoUsd(divide_up(exact, TOKENS_PER_PRICE) + self._fees(calls, fees))

    def calls_within(self, hold_nano_usd: NanoUsd, output_tokens: int) -> int:
        """The most calls of hosted tools that a hold covers beside so much output: at least one, if there are any."""
        most = self.tools.most_calls
        if not most:
            return 0
        fitting = (calls for calls in range(most, 0, -1) if self.nano_usd(output_tokens, calls) <= hold_nano_usd)
        return next(fitting, 1)

    def output_within(self, hold_nano_usd: NanoUsd, calls: int) -> int:
        """The longest answer that a hold covers beside so many calls, in tokens."""
        output_price, fees = self._output_price(), self._of_each_request()
        left = (hold_nano_usd - self._fees(calls, fees)) * TOKENS_PER_PRICE
        left -= self._beside_answer(calls, output_price, len(fees))
        return max(0, left // max(1, output_price))

    def _fees(self, calls: int, of_each_request: Sequence[Fee]) -> int:
        own = self.tools.fees(calls, self.price)
        return own + sum([fee.nano_usd for fee in of_each_request]) if of_each_request else own

    def _of_each_request(self) -> list[Fee]:
        """The fees of uses that every request of the model has and that no tool of this one counts."""
        fees = [fee for fee in self.price.fees if fee.is_of_each_request]
        if not fees:
            return fees
        counted = {tool.use for tool in self.tools.tools}
        return [fee for fee in fees if fee.tool not in counted]

    def _beside_answer(self, calls: int, output_price: int, further_readings: int) -> int:
        text = dearest(self.price, TEXT_CLASSES) or 0
        audio = max(text, dearest(self.price, AUDIO_CLASSES) or 0) if self.audio_tokens else text
        readings = self.tools.readings(calls) + further_readings
        read = self.input_tokens - self.audio_tokens + readings * self.context_window
        written = self.predicted_tokens
        if self.summary_tokens:
            read += self.summary_reading_tokens + readings * self.context_window
            written += (1 + readings) * self.summary_tokens
        return read * text + self.audio_tokens * audio + written * output_price

    def _output_price(self) -> int:
        return dearest(self.price, OUTPUT_CLASSES if self.writes_audio else OUTPUT_CLASSES[:1]) or 0


def on_asked_terms(price: Price, terms: Mapping[str, str]) -> tuple[Price, str | None]:
    """The price whose every tier is one that the request may be charged at, and a term that has no known price.

    A provider may serve a request on the standard terms where the asked ones are not to be had, so both are in it.
    """
    if not terms:
        return price, None
    asked, unknown = on_terms(price, terms)
    if unknown:
        return price, unknown[0]
    tiers = (*price.tiers, ContextTier(above_tokens=0, prices=asked.prices), *asked.tiers)
    return replace(price, tiers=tiers), None
