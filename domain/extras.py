"""What an answer says beside its tokens: uses of hosted tools, the terms on which it was served, a cost of its own."""

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from domain.money import NanoUsd, from_usd
from domain.tokens import TokenUsage

MAX_STATED_USD = 1_000
"""A provider that states a higher cost of an answer is not believed."""
MAX_USES = 100_000
MAX_TERM_CHARS = 64
STANDARD = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand", "global", "not_available"})
"""Terms by which providers say that nothing special was used."""


class OtherUsage(Struct, frozen=True, kw_only=True):
    """The tokens of another model, which the provider asked for this answer: an advisor, one that draws."""

    use: str
    """As the answer names it: `advisor_message`, `image_generation_call`."""
    tokens: dict[str, int]
    """By class."""


class Extras(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As the provider states it. A dialect's package reads it; `domain/pricing.py` prices it."""

    uses: dict[str, int] = {}
    """Billable uses of each hosted tool, by the names of fees."""
    terms: dict[str, str] = {}
    """Terms that change the price (`service_tier`, `speed`, `inference_geo`), other than the standard ones."""
    stated: frozenset[str] = frozenset()
    """The terms that the answer states, standard or not. Of the others those count that the request asks for."""
    unpriced: tuple[str, ...] = ()
    """What it used that has no known price."""
    provider_cost_nano_usd: NanoUsd | None = None
    """What the answer says that it cost."""
    others: tuple[OtherUsage, ...] = ()
    readings: tuple[TokenUsage, ...] = ()
    """The parts of its tokens, if the model read a prompt more than once: prices go by the length of each. Empty: once,
    or not known.
    """


NO_EXTRAS = Extras()


def with_asked(extras: Extras, asked: dict[str, str] | None, unpriced: tuple[str, ...] = ()) -> Extras:
    """The extras with the terms that the request asks for, where the answer does not say on which it was served, and
    with what the request uses that has no known price, whatever the answer says.
    """
    if not asked and not unpriced:
        return extras
    terms = {name: value for name, value in (asked or {}).items() if name not in extras.stated} | extras.terms
    return Extras(
        uses=extras.uses,
        terms=terms,
        stated=extras.stated,
        unpriced=tuple(dict.fromkeys((*extras.unpriced, *unpriced))),
        provider_cost_nano_usd=extras.provider_cost_nano_usd,
        others=extras.others,
        readings=extras.readings,
    )


def joined(all_extras: Sequence[Extras]) -> Extras:
    """Those of several answers that make up one; at least one. Their terms are the first's."""
    costs = [one.provider_cost_nano_usd for one in all_extras]
    uses: Counter[str] = Counter()
    for one in all_extras:
        uses.update(one.uses)
    return Extras(
        uses=dict(uses),
        terms=all_extras[0].terms,
        stated=all_extras[0].stated,
        unpriced=tuple(dict.fromkeys(name for one in all_extras for name in one.unpriced)),
        provider_cost_nano_usd=NanoUsd(sum(cost for cost in costs if cost is not None)) if None not in costs else None,
        others=tuple(other for one in all_extras for other in one.others),
    )


def served_terms(stated: Iterable[tuple[str, Any]]) -> tuple[dict[str, str], frozenset[str]]:
    """Of the terms that an answer states, those other than the standard ones; and the names of all that it states."""
    texts = {name: value for name, value in stated if isinstance(value, str)}
    if not texts:
        return {}, frozenset()
    return (
        {name: value[:MAX_TERM_CHARS] for name, value in texts.items() if value not in STANDARD},
        frozenset(texts),
    )


def count_of(value: Any, most: int = MAX_USES) -> int:
    """A number of uses in an answer; 0 if it is none."""
    return min(value, most) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def stated_cost(value: Any) -> NanoUsd | None:
    """The cost in US dollars that an answer's usage states: a number, or an object with a `total_cost`. None: it does
    not, or states nonsense.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        value = value.get("total_cost")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_STATED_USD:
        return None
    return from_usd(Decimal(repr(value)))
