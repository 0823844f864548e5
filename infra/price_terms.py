"""Prices that are no tokens' standard ones: the fees of hosted tools, and other terms (service tiers, regions, speeds).

From the price library where it has them. The rest stands here, in one table: each row with its source and the day on
which it was read there.
"""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from domain.money import NANO_PER_USD, NanoUsd
from domain.pricing import INPUT_CLASSES, OUTPUT_CLASSES, ClassPrices, Fee, Variant

_OPENAI = "openai"
_ANTHROPIC = "anthropic"
_OPENAI_PRICING = "https://platform.openai.com/docs/pricing, 2026-11-06"
_OPENAI_CONTAINERS = "https://platform.openai.com/docs/pricing (containers), 2026-11-06; by the minute since 2026-06-02"
_ANTHROPIC_PRICING = "https://platform.claude.com/docs/en/about-claude/pricing, 2026-11-06"
_ANTHROPIC_RESIDENCY = "https://platform.claude.com/docs/en/manage-claude/data-residency, 2026-11-25"
_ANTHROPIC_FAST = "https://platform.claude.com/docs/en/build-with-claude/fast-mode, 2026-05-07"

_ANY = r".*"
_DOES_NOT_REASON = r"(chatgpt-)?gpt-4.*"
SEARCHES_EACH_TIME = re.compile(r"gpt-[^/]*-search.*")
"""OpenAI's chat models that search the web in every request."""


class _FeeRow(Struct, frozen=True):
    vendor: str
    models: re.Pattern[str]
    tool: str
    nano_usd: int
    source: str
    most_nano_usd: int | None = None


class _FactorRow(Struct, frozen=True):
    vendor: str
    models: re.Pattern[str]
    term: str
    percent: int
    source: str


def _per_thousand(dollars: int) -> int:
    return dollars * NANO_PER_USD // 1_000


_FEES: tuple[_FeeRow, ...] = (
    _FeeRow(_OPENAI, re.compile(_DOES_NOT_REASON), "web_search_preview", _per_thousand(25), _OPENAI_PRICING),
    _FeeRow(_OPENAI, re.compile(r"gpt-4o.*-search.*"), "web_search", _per_thousand(25), _OPENAI_PRICING),
    _FeeRow(_OPENAI, re.compile(_ANY), "web_search", _per_thousand(10), _OPENAI_PRICING),
    _FeeRow(_OPENAI, re.compile(_ANY), "file_search", _per_thousand(5) // 2, _OPENAI_PRICING),
    # One session of 20 minutes, which all calls of a response share. It is charged by the minute, at least five of them
    # (https://developers.openai.com/api/docs/changelog, 2026-06-02); answers do not say how many, so all are charged.
    _FeeRow(_OPENAI, re.compile(_ANY), "container_1g", 30_000_000, _OPENAI_CONTAINERS),
    _FeeRow(_OPENAI, re.compile(_ANY), "container_4g", 120_000_000, _OPENAI_CONTAINERS),
    _FeeRow(_OPENAI, re.compile(_ANY), "container_16g", 480_000_000, _OPENAI_CONTAINERS),
    _FeeRow(_OPENAI, re.compile(_ANY), "container_64g", 1_920_000_000, _OPENAI_CONTAINERS),
    _FeeRow(_ANTHROPIC, re.compile(_ANY), "web_search", _per_thousand(10), _ANTHROPIC_PRICING),
    # $0.05 an hour, at least five minutes; answers do not say how long it was.
    _FeeRow(_ANTHROPIC, re.compile(_ANY), "code_execution", 4_166_667, _ANTHROPIC_PRICING, 50_000_000),
)
_FACTORS: tuple[_FactorRow, ...] = (
    _FactorRow(
        _ANTHROPIC,
        re.compile(r"claude-(v1|2|3|instant).*|claude-(opus|sonnet|haiku)-4(-[0-5])?(-\d{8})?"),
        "inference_geo=us",
        100,
        _ANTHROPIC_RESIDENCY,
    ),
    _FactorRow(_ANTHROPIC, re.compile(_ANY), "inference_geo=us", 110, _ANTHROPIC_RESIDENCY),
    # Of later models the library has the fast prices. Opus 4.7 lost the mode on 2026-07-24.
    _FactorRow(_ANTHROPIC, re.compile(r"claude-opus-4-[67].*"), "speed=fast", 600, _ANTHROPIC_FAST),
)
_TERMS_OF_LIBRARY = ("service_tier", "speed")


def fees_of(vendor: str, model: str, listed: Any, library: str) -> tuple[Fee, ...]:
    """The fees of a model's hosted tools. `listed`: the library's prices of it; `library`: its name as a source."""
    fees: dict[str, Fee] = {}
    searches_each_time = vendor == _OPENAI and SEARCHES_EACH_TIME.fullmatch(model) is not None
    for key, tool in (("web_searches_kcount", "web_search"), ("storage_searches_kcount", "file_search")):
        price = getattr(listed, key, None)
        if isinstance(price, Decimal) and not searches_each_time:
            fees[tool] = Fee(tool=tool, nano_usd=NanoUsd(-int(-(price * NANO_PER_USD) // 1_000)), source=library)
    for row in _FEES:
        if row.vendor == vendor and row.tool not in fees and row.models.fullmatch(model):
            fees[row.tool] = Fee(
                tool=row.tool,
                nano_usd=NanoUsd(row.nano_usd),
                most_nano_usd=NanoUsd(row.most_nano_usd) if row.most_nano_usd is not None else None,
                source=row.source,
                is_of_each_request=searches_each_time and row.tool == "web_search",
            )
    return tuple(fees.values())


def factors_of(vendor: str, model: str) -> tuple[Variant, ...]:
    """The terms whose prices are the standard ones times a factor: of each term the first row that matches."""
    found: dict[str, Variant] = {}
    for row in _FACTORS:
        if row.vendor == vendor and row.term not in found and row.models.fullmatch(model):
            found[row.term] = Variant(term=row.term, source=row.source, percent=row.percent)
    return tuple(found.values())


def library_terms(model: Any, at: datetime) -> dict[str, Any]:
    """The library's prices of a model by term, for those terms that an answer may be served on."""
    asked = {
        (name, variant.when[name])
        for variant in model.price_variants or ()
        for name in _TERMS_OF_LIBRARY
        if set(variant.when) == {name}
    }
    return {
        f"{name}={value}": model.get_prices(at, {name: value}) for name, value in sorted(asked) if value != "default"
    }


def in_ratio(prices: ClassPrices, standard: ClassPrices, other: ClassPrices) -> ClassPrices:
    """Prices that are to `prices` as `other` is to `standard`, class by class, rounded up.

    A class that one of them lacks is scaled as the input is.
    """
    values: dict[str, int] = {}
    for name in (*INPUT_CLASSES, *OUTPUT_CLASSES):
        value, before, after = getattr(prices, name), getattr(standard, name), getattr(other, name)
        if value is None:
            continue
        if not before or after is None:
            before, after = standard.input, other.input
        values[name] = -(-value * after // before) if before else value
    return ClassPrices(**values)
