"""A cost is the sum of its classes, rounded once; the bound is never below it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.canonical.chat import ChatRequest, UserMessage
from domain.canonical.embeddings import EmbeddingsRequest
from domain.estimate import input_bound, output_bound
from domain.extras import Extras
from domain.holds import Hold
from domain.pricing import (
    TEXT_CLASSES,
    ClassPrices,
    ContextTier,
    Price,
    PriceOverride,
    cost,
    dearest,
    reachable,
)
from domain.routing import NamedProvider, Target, resolve_target
from domain.tokens import TokenUsage
from infra.price_book import PriceBook

NOW = datetime(2026, 11, 23, tzinfo=UTC)
BOOK = PriceBook()
EVERY_PRICE = [model.price for model in BOOK.listed(NOW) if model.price is not None]


def price_in(book: PriceBook, target: Target, at: datetime) -> Price | None:
    price, _ = book.look_up(target, at)
    return price


def price_of(model: str, provider: str = "openai") -> Price:
    found = price_in(BOOK, resolve_target(f"{provider}/{model}", {}), NOW)
    assert found is not None
    return found


def test_the_specifications_example_costs_its_tokens() -> None:
    assert cost(TokenUsage(input=25, output=8), price_of("gpt-4o-mini")).total_nano_usd == 25 * 150 + 8 * 600


def test_each_class_has_its_own_price() -> None:
    price = price_of("claude-3.5-sonnet", "anthropic")
    usage = TokenUsage(input=1, cache_read=10, cache_write=100, cache_write_1h=1000, output=1)
    assert cost(usage, price).total_nano_usd == 3_000 + 10 * 300 + 100 * 3_750 + 1000 * 6_000 + 15_000


def test_a_class_without_a_price_has_its_fallback_price() -> None:
    price = Price(provider="p", model="m", source="s", prices=ClassPrices(input=2_000_000, output=1_000_000))
    for name in TEXT_CLASSES:
        assert cost(TokenUsage(**{name: 5}), price).total_nano_usd == 10


def test_long_prompt_is_priced_at_its_tier() -> None:
    tier = ContextTier(above_tokens=100, prices=ClassPrices(input=4_000_000, output=0))
    price = Price(provider="p", model="m", source="s", prices=ClassPrices(input=2_000_000), tiers=(tier,))
    assert cost(TokenUsage(input=100), price).total_nano_usd == 200
    assert cost(TokenUsage(input=60, cache_read=41), price).total_nano_usd == 404


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**6), st.sampled_from(EVERY_PRICE))
def test_the_breakdown_adds_up_to_the_total(tokens_in: int, tokens_out: int, cached: int, price: Price) -> None:
    found = cost(TokenUsage(input=tokens_in, output=tokens_out, cache_read=cached), price)
    exact = sum(item.tokens * item.nano_usd_per_million for item in found.items)
    assert abs(found.total_nano_usd * 10**6 - exact) <= 5 * 10**5


@settings(max_examples=300)
@given(st.text(max_size=200), st.integers(1, 10_000), st.data(), st.sampled_from(EVERY_PRICE))
def test_the_bound_is_never_below_the_largest_bill(text: str, cap: int, data: st.DataObject, price: Price) -> None:
    request = ChatRequest(messages=[UserMessage(content=text)], max_tokens=cap)
    tokens = len(text.encode())
    cached = data.draw(st.integers(0, tokens))
    written = data.draw(st.integers(0, tokens - cached))
    usage = TokenUsage(input=tokens - cached - written, cache_read=cached, cache_write_1h=written, output=cap)
    hold = Hold(price=price, input_tokens=input_bound(request), context_window=0)
    held = hold.nano_usd(output_bound(request, price.model, None), 0)
    assert held >= cost(usage, price).total_nano_usd


@settings(max_examples=300)
@given(
    st.integers(1, 400_000), st.integers(1, 1_000), st.data(), st.sampled_from(EVERY_PRICE), st.sampled_from([0, 5, 60])
)
def test_the_bound_at_the_prices_in_reach_is_never_below_the_largest_bill(
    tokens: int, answer: int, data: st.DataObject, price: Price, written_for_minutes: int
) -> None:
    true = data.draw(st.integers(0, tokens))
    cached = data.draw(st.integers(0, true))
    written = data.draw(st.integers(0, true - cached)) if written_for_minutes else 0
    usage = TokenUsage(
        input=true - cached - written,
        cache_read=cached,
        cache_write=written if written_for_minutes == 5 else 0,
        cache_write_1h=written if written_for_minutes == 60 else 0,
        output=answer,
    )
    prices = reachable(price, tokens, writes_5m=written_for_minutes > 0, writes_1h=written_for_minutes == 60)
    assert (
        Hold(price=prices, input_tokens=tokens, context_window=0).nano_usd(answer, 0)
        >= cost(usage, price).total_nano_usd
    )


def test_a_hold_leaves_out_what_no_request_of_its_kind_is_charged() -> None:
    tier = ContextTier(above_tokens=200_000, prices=ClassPrices(input=6, output=22, cache_write=7, cache_write_1h=12))
    prices = ClassPrices(input=3, output=15, cache_write=4, cache_write_1h=6)
    price = Price(provider="p", model="m", source="s", prices=prices, tiers=(tier,))
    found = [
        dearest(reachable(price, tokens, writes_5m=minutes > 0, writes_1h=minutes == 60), TEXT_CLASSES)
        for tokens in (200_000, 200_001)
        for minutes in (0, 5, 60)
    ]
    assert found == [3, 4, 6, 6, 7, 12]


def test_embeddings_hold_their_input_only() -> None:
    request = EmbeddingsRequest(input=["ab", "é"])
    assert input_bound(request) >= 4
    assert output_bound(request, "text-embedding-3-small", None) == 0


def test_the_bound_without_a_cap_is_the_models_longest_answer() -> None:
    request = ChatRequest(messages=[UserMessage(content="x")])
    assert output_bound(request, "gpt-4o-mini", 128_000) == 16_384
    assert output_bound(request, "unheard-of", 5_000) == 5_000


def test_other_models_are_priced_by_the_library_and_its_date() -> None:
    early = price_in(BOOK, resolve_target("o3", {}), datetime(2025, 5, 1, tzinfo=UTC))
    late = price_of("o3")
    assert early is not None
    assert late.source.startswith("genai-prices ")
    assert early.prices.input == 5 * late.prices.input


def test_each_reading_is_priced_at_the_tier_of_its_own_length() -> None:
    tier = ContextTier(above_tokens=100, prices=ClassPrices(input=4_000_000, output=6_000_000))
    price = Price(
        provider="p", model="m", source="s", prices=ClassPrices(input=2_000_000, output=3_000_000), tiers=(tier,)
    )
    short, long = TokenUsage(input=60, output=1), TokenUsage(input=60, cache_read=41, output=1)
    assert cost(short + short, price, Extras(readings=(short, short))).total_nano_usd == 2 * (120 + 3)
    breakdown = cost(short + long, price, Extras(readings=(short, long)))
    assert breakdown.total_nano_usd == 120 + 3 + 404 + 6
    assert [(item.token_class, item.tokens) for item in breakdown.items] == [
        ("input", 60),
        ("output", 1),
        ("input", 60),
        ("cache_read", 41),
        ("output", 1),
    ]


def test_readings_that_are_not_all_that_was_used_say_nothing_of_the_price() -> None:
    tier = ContextTier(above_tokens=100, prices=ClassPrices(input=4_000_000))
    price = Price(provider="p", model="m", source="s", prices=ClassPrices(input=2_000_000), tiers=(tier,))
    readings = (TokenUsage(input=60), TokenUsage(input=59))
    assert cost(TokenUsage(input=120), price, Extras(readings=readings)).total_nano_usd == 480


@pytest.mark.parametrize("model", ["gpt-4o-foo", "moderation", "nothing"])
def test_unpriced_model_has_no_price(model: str) -> None:
    assert price_in(BOOK, resolve_target(f"openai/{model}", {}), NOW) is None


def named(base_url: str, name: str = "mine") -> NamedProvider:
    return NamedProvider(name=name, kind="openai", base_url=base_url)


def test_configured_provider_has_the_prices_of_its_address() -> None:
    price = price_in(
        BOOK, resolve_target("mine/llama-3.3-70b-versatile", {}, [named("https://api.groq.com/openai/v1")]), NOW
    )
    assert price is not None
    assert (price.provider, price.prices.input, price.prices.output) == ("mine", 590_000_000, 790_000_000)


def test_the_specifications_prices_are_not_those_of_other_sellers() -> None:
    azure = named("https://mine.openai.azure.com/openai/v1")
    price = price_in(BOOK, resolve_target("mine/gpt-4o", {}, [azure]), NOW)
    assert price is not None
    assert price.source.startswith("genai-prices ")
    assert price.prices.input != price_of("gpt-4o").prices.input


def test_unknown_address_needs_an_operators_price() -> None:
    found = resolve_target("mine/gpt-4o", {}, [named("https://llm.example.com/v1")])
    book = PriceBook()
    assert price_in(book, found, NOW) is None
    prices = ClassPrices(input=7, output=9)
    book.set_overrides([PriceOverride(provider="mine", model="gpt-4o", effective_from=NOW, prices=prices)])
    price = price_in(book, found, NOW)
    assert price is not None
    assert (price.source, price.prices) == ("override", prices)
    assert [one.name for one in book.compared(NOW) if one.provider == "mine"] == ["gpt-4o"]


def test_configured_models_are_listed_with_their_provider() -> None:
    groq = named("https://api.groq.com/openai/v1", "groq")
    own = NamedProvider(name="own", kind="openai", base_url="https://llm.example.com/v1", models=("a", "b/c"))
    listed = {model.name: model for model in BOOK.listed(NOW, [groq, own])}
    assert listed["own/b/c"].price is None
    assert (listed["a"].provider, listed["b/c"].provider) == ("own", "own")
    assert listed["groq/llama-3.3-70b-versatile"].price is not None
    assert len(BOOK.listed(NOW)) < len(listed)


def priced_at(base_url: str, model: str) -> Price | None:
    return price_in(BOOK, resolve_target(f"mine/{model}", {}, [named(base_url)]), NOW)


@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        ("https://api.perplexity.ai", "sonar"),
        ("https://api.perplexity.ai", "sonar-pro"),
        ("https://api.perplexity.ai", "sonar-deep-research"),
        ("https://api.perplexity.ai", "perplexity/sonar"),
        ("https://openrouter.ai/api/v1", "perplexity/sonar-pro-search"),
        ("https://openrouter.ai/api/v1", "perplexity/llama-3.1-sonar-large-128k-online"),
        ("https://openrouter.ai/api/v1", "openai/gpt-4o:online"),
        ("https://openrouter.ai/api/v1", "openai/gpt-4o:nitro"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-2.5-flash-image"),
        ("https://api.mistral.ai/v1", "voxtral-small-24b-2507"),
    ],
)
def test_model_with_extra_charges_has_no_price(base_url: str, model: str) -> None:
    assert priced_at(base_url, model) is None


@pytest.mark.parametrize(
    ("model", "nano_usd"),
    [
        ("gpt-4o-search-preview", 25_000_000),
        ("gpt-5-search-api", 10_000_000),
        ("gpt-4o-mini-search-preview", 25_000_000),
    ],
)
def test_a_model_that_searches_by_itself_has_the_fee_of_one_search(model: str, nano_usd: int) -> None:
    price = price_of(model)
    found = cost(TokenUsage(input=10, output=5), price)
    (search,) = (item for item in found.items if item.unit == "use")
    assert (search.token_class, search.tokens, search.nano_usd_per_million) == ("web_search", 1, nano_usd * 10**6)
    with_citations = cost(TokenUsage(input=10, output=5), price, Extras(uses={"web_search": 1}))
    assert with_citations == found


@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        ("https://openrouter.ai/api/v1", "openai/gpt-4o"),
        ("https://openrouter.ai/api/v1", "openai/gpt-6-luna:batch"),
        ("https://api.openai.com/v1", "gpt-5"),
        ("https://api.openai.com:443/v1", "gpt-5"),
        ("https://API.OPENAI.com/v1/", "gpt-5"),
        ("https://api.moonshot.ai/v1", "kimi-k2-0711-preview"),
        ("https://router.huggingface.co/groq/v1", "openai/gpt-oss-20b"),
    ],
)
def test_token_only_models_have_the_sellers_price(base_url: str, model: str) -> None:
    assert priced_at(base_url, model) is not None


@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        ("https://openrouter.ai.evil.com/api/v1", "openai/gpt-4o"),
        ("https://openrouter.ai@evil.com/api/v1", "openai/gpt-4o"),
        ("https://evil.com/x.googleapis.com", "gemini-2.5-flash"),
        ("https://evil.com?x.googleapis.com", "gemini-2.5-flash"),
        ("https://evil/x.openai.azure.com", "gpt-4o"),
        ("https://evil.com#.cloud.databricks.com/serving-endpoints", "databricks-gpt-oss-20b"),
        ("https://api.moonshot.evil.com/v1", "kimi-k2-0711-preview"),
        ("https://api.openai.com:8443/v1", "gpt-5"),
        ("https://api.openai.com:x/v1", "gpt-5"),
    ],
)
def test_an_address_is_a_sellers_by_its_whole_host(base_url: str, model: str) -> None:
    assert priced_at(base_url, model) is None


def test_hour_cache_write_costs_at_least_twice_the_input() -> None:
    vertex = NamedProvider(name="mine", kind="anthropic", base_url="https://europe-west1-aiplatform.googleapis.com/v1")
    sold = price_in(BOOK, resolve_target("mine/claude-3-5-haiku", {}, [vertex]), NOW)
    book = PriceBook()
    prices = ClassPrices(input=4, output=9, cache_write=5)
    book.set_overrides(
        [
            PriceOverride(provider="anthropic", model="claude-3-haiku", effective_from=NOW, prices=prices),
            PriceOverride(provider="openai", model="gpt-4o", effective_from=NOW, prices=prices),
        ]
    )
    claude, gpt = (price_in(book, resolve_target(model, {}), NOW) for model in ("claude-3-haiku", "gpt-4o"))
    assert sold is not None
    assert claude is not None
    assert gpt is not None
    assert sold.prices.cache_write_1h == 2 * sold.prices.input
    assert (claude.prices.cache_write_1h, gpt.prices) == (8, prices)
