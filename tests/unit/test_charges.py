"""What is used beside tokens is charged at a fee of its own, tokens at the price of the terms that were served."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.dialects.anthropic.response import meter_chat_response as meter_message
from domain.dialects.anthropic.stream_reader import AnthropicMessagesReader
from domain.dialects.anthropic.usage import parse_extras, read_usage
from domain.dialects.openai.response import meter_chat_response
from domain.dialects.openai.responses_api import ResponsesReader, meter_response
from domain.extras import NO_EXTRAS, Extras, joined, with_asked
from domain.holds import Hold, on_asked_terms
from domain.hosted_tools import DEFAULT_CALLS, HostedTool, HostedTools
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price, charge, in_log, on_terms
from domain.routing import resolve_target
from domain.tokens import TokenUsage
from infra.price_book import PriceBook
from tests.support.sdk_streams import events_of

NOW = datetime(2026, 11, 23, tzinfo=UTC)
BOOK = PriceBook()
USAGE = TokenUsage(input=1_000, output=500)


def price_of(model: str) -> Price:
    found, _ = BOOK.look_up(resolve_target(model, {}), NOW)
    assert found is not None
    return found


def charged(model: str, extras: Extras, usage: TokenUsage = USAGE) -> tuple[int, tuple[str, ...]]:
    _, breakdown = charge(usage, price_of(model), extras)
    assert breakdown is not None
    return breakdown.total_nano_usd, breakdown.unpriced


@pytest.mark.parametrize(
    ("model", "tool", "nano_usd"),
    [
        ("gpt-5", "web_search", 10_000_000),
        ("gpt-5", "file_search", 2_500_000),
        ("claude-sonnet-4-5", "web_search", 10_000_000),
        ("claude-3-opus", "web_search", 10_000_000),
    ],
)
def test_every_use_of_a_hosted_tool_costs_its_fee(model: str, tool: str, nano_usd: int) -> None:
    plain, _ = charged(model, NO_EXTRAS)
    assert charged(model, Extras(uses={tool: 3})) == (plain + 3 * nano_usd, ())


def test_every_fee_says_where_it_was_read() -> None:
    for model in ("gpt-5", "gpt-4o-search-preview", "claude-sonnet-4-5"):
        price = price_of(model)
        assert price.fees
        assert all(fee.source.startswith(("https://", "genai-prices ")) for fee in price.fees)
        assert all(variant.source.startswith(("https://", "genai-prices ")) for variant in price.variants)


def test_a_tool_without_a_fee_makes_the_cost_a_lower_bound() -> None:
    plain, _ = charged("gpt-5", NO_EXTRAS)
    assert charged("gpt-5", Extras(uses={"weather": 2})) == (plain, ("weather",))
    assert charged("gpt-5", Extras(unpriced=("image_generation_call",))) == (plain, ("image_generation_call",))


def test_code_that_ran_for_an_unknown_time_costs_at_least_its_minimum() -> None:
    plain, _ = charged("claude-sonnet-4-5", NO_EXTRAS)
    total, unpriced = charged("claude-sonnet-4-5", Extras(uses={"code_execution": 1}))
    assert total == plain + 4_166_667
    assert unpriced == ("code_execution: its time",)


@pytest.mark.parametrize(
    ("model", "term", "percent_in", "percent_out"),
    [
        ("gpt-4o", ("service_tier", "priority"), 170, 170),  # $4.25 and $17 where the standard is $2.50 and $10
        ("gpt-5", ("service_tier", "flex"), 50, 50),
        ("gpt-5", ("service_tier", "priority"), 200, 200),
        ("claude-opus-4-8", ("speed", "fast"), 200, 200),
        ("claude-opus-4-6", ("speed", "fast"), 600, 600),
        ("claude-opus-4-8", ("inference_geo", "us"), 110, 110),
        ("claude-sonnet-4-5", ("inference_geo", "us"), 100, 100),
    ],
)
def test_tokens_cost_what_the_served_terms_say(
    model: str, term: tuple[str, str], percent_in: int, percent_out: int
) -> None:
    standard, (name, value) = price_of(model), term
    served, unknown = on_terms(standard, {name: value})
    assert unknown == ()
    assert served.terms == (f"{name}={value}",)
    assert served.prices.input * 100 == standard.prices.input * percent_in
    assert served.prices.output * 100 == standard.prices.output * percent_out


def test_a_region_multiplies_the_price_of_a_speed() -> None:
    served, _ = on_terms(price_of("claude-opus-4-8"), {"speed": "fast", "inference_geo": "us"})
    assert (served.prices.input, served.prices.output) == (11_000_000_000, 55_000_000_000)


def test_terms_without_a_price_make_the_cost_a_lower_bound() -> None:
    plain, _ = charged("gpt-5", NO_EXTRAS)
    assert charged("gpt-5", Extras(terms={"service_tier": "ultrafast"})) == (plain, ("service_tier=ultrafast",))
    plain, _ = charged("claude-sonnet-4-5", NO_EXTRAS)
    assert charged("claude-sonnet-4-5", Extras(terms={"service_tier": "priority"}))[1] == ("service_tier=priority",)


def test_the_terms_that_the_answer_states_count_before_those_that_were_asked_for() -> None:
    asked = {"service_tier": "flex", "speed": "fast"}
    assert with_asked(Extras(stated=frozenset({"service_tier"})), asked).terms == {"speed": "fast"}
    assert with_asked(NO_EXTRAS, asked).terms == asked


def test_what_a_request_uses_makes_its_cost_a_lower_bound_whatever_the_answer_says() -> None:
    extras = with_asked(Extras(unpriced=("a",), stated=frozenset({"service_tier"})), None, ("plugins", "a"))
    assert (extras.unpriced, extras.stated) == (("a", "plugins"), frozenset({"service_tier"}))
    assert with_asked(NO_EXTRAS, None) is NO_EXTRAS


def test_audio_has_a_price_of_its_own_or_none() -> None:
    usage = TokenUsage(input=100, input_audio=10, output=50, output_audio=5)
    total, unpriced = charged("gpt-audio", NO_EXTRAS, usage)
    assert (total, unpriced) == (100 * 2_500 + 10 * 32_000 + 50 * 10_000 + 5 * 64_000, ())
    total, unpriced = charged("gpt-4o-audio-preview", NO_EXTRAS, usage)
    assert (total, unpriced) == (100 * 2_500 + 50 * 10_000, ("input_audio", "output_audio"))


def test_a_sellers_own_cost_counts_where_there_is_no_price() -> None:
    price, breakdown = charge(USAGE, None, Extras(provider_cost_nano_usd=123))  # type: ignore[arg-type]
    assert price is None
    assert breakdown is not None
    assert (breakdown.total_nano_usd, breakdown.items[0].source) == (123, "provider")
    assert charge(USAGE, None, NO_EXTRAS) == (None, None)
    plain, _ = charged("gpt-5", NO_EXTRAS)
    assert charged("gpt-5", Extras(provider_cost_nano_usd=123))[0] == plain  # type: ignore[arg-type]


def test_the_log_keeps_the_price_without_the_fees_that_did_not_apply() -> None:
    kept = in_log(price_of("gpt-5"))
    assert (kept.fees, kept.variants) == ((), ())


# What answers say


def test_anthropics_searches_are_read_from_the_usage() -> None:
    body = (
        b'{"id":"m","content":[],"model":"c","stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":3,"service_tier":'
        b'"priority","inference_geo":"us","server_tool_use":{"web_search_requests":2,"web_fetch_requests":7}}}'
    )
    extras = meter_message(body).extras
    assert extras.uses == {"web_search": 2}
    assert extras.terms == {"service_tier": "priority", "inference_geo": "us"}


def test_the_end_of_anthropics_stream_has_the_searches() -> None:
    reader = AnthropicMessagesReader()
    stream = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"x","model":"m","usage":'
        b'{"input_tokens":7,"output_tokens":1,"service_tier":"standard","speed":"fast"}}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","container":'
        b'{"id":"c"}},"usage":{"output_tokens":9,"server_tool_use":{"web_search_requests":3}}}\n\n'
    )
    for event in events_of(stream):
        reader.take(event)
    assert reader.extras.uses == {"web_search": 3, "code_execution": 1}
    assert (reader.extras.terms, reader.extras.stated) == ({"speed": "fast"}, {"service_tier", "speed"})


def test_each_of_the_models_turns_is_a_reading_of_its_own() -> None:
    turns = [
        {"type": "message", "input_tokens": 150, "output_tokens": 1},
        {"type": "compaction", "input_tokens": 180, "output_tokens": 9},
    ]
    said = {"input_tokens": 150, "output_tokens": 1, "iterations": turns}
    usage, _ = read_usage(said)
    readings = parse_extras(said, None).readings
    assert readings == (TokenUsage(input=150, output=1), TokenUsage(input=180, output=9))
    assert usage == readings[0] + readings[1]
    assert parse_extras(said | {"iterations": turns[:1]}, None).readings == ()


def test_another_models_part_in_an_answer_is_not_free() -> None:
    body = (
        b'{"id":"m","content":[],"usage":{"input_tokens":5,"output_tokens":3,"iterations":'
        b'[{"type":"message"},{"type":"advisor_message","model":"x"}]}}'
    )
    assert meter_message(body).extras.unpriced == ("advisor_message",)


ADVICE = {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 900, "output_tokens": 80}
ADVISOR = HostedTool(
    field="tools[0] (advisor_20260301)",
    use="advisor_message",
    model="claude-opus-4-8",
    most_tokens={"input": 1_000_000, "output": 2_048},
    limited_by="tool",
)


def with_other(use: str, model: str, answering: str) -> Price:
    other = BOOK.other_model(use, resolve_target(model, {}), NOW)
    assert other is not None
    return replace(price_of(answering), others=(other,))


def test_an_advisors_tokens_cost_what_its_own_model_does() -> None:
    said = {"input_tokens": 5, "output_tokens": 3, "iterations": [{"type": "message"}, ADVICE, ADVICE]}
    extras = parse_extras(said, None)
    assert extras.unpriced == ()
    _, breakdown = charge(USAGE, with_other("advisor_message", "claude-opus-4-8", "claude-haiku-4-5"), extras)
    _, plain = charge(USAGE, price_of("claude-haiku-4-5"), NO_EXTRAS)
    assert breakdown is not None
    assert plain is not None
    advice = [(item.token_class, item.tokens, item.model) for item in breakdown.items if item.model is not None]
    assert advice == [("input", 1_800, "claude-opus-4-8"), ("output", 160, "claude-opus-4-8")]
    assert breakdown.total_nano_usd - plain.total_nano_usd == 1_800 * 5_000 + 160 * 25_000
    assert breakdown.unpriced == ()


def test_an_advisor_without_a_price_makes_the_cost_a_lower_bound() -> None:
    extras = parse_extras({"input_tokens": 5, "iterations": [ADVICE]}, None)
    assert charged("claude-haiku-4-5", extras)[1] == ("advisor_message",)


DRAWN = {
    "input_tokens": 600,
    "input_tokens_details": {"image_tokens": 500, "text_tokens": 100},
    "output_tokens": 1_056,
    "total_tokens": 1_656,
}


def test_what_a_model_draws_costs_what_its_images_do() -> None:
    body = RESPONSE % (b',"tool_usage":' + msgspec.json.encode({"image_gen": DRAWN}))
    extras = meter_response(body).extras
    assert extras.unpriced == ()
    price = with_other("image_generation_call", "gpt-image-1.5", "gpt-5")
    _, breakdown = charge(USAGE, price, replace(NO_EXTRAS, others=extras.others))
    _, plain = charge(USAGE, price_of("gpt-5"), NO_EXTRAS)
    assert breakdown is not None
    assert plain is not None
    assert breakdown.total_nano_usd - plain.total_nano_usd == 100 * 5_000 + 500 * 8_000 + 1_056 * 32_000
    cached = DRAWN | {"cached_tokens_details": {"cached_image_tokens": 500, "cached_text_tokens": 40}}
    cached |= {"output_tokens_details": {"image_tokens": 1_000, "text_tokens": 56}}
    (drawn,) = meter_response(RESPONSE % (b',"tool_usage":' + msgspec.json.encode({"image_gen": cached}))).extras.others
    assert drawn.tokens == {
        "input": 60,
        "cache_read": 40,
        "output": 56,
        "output_image": 1_000,
        "input_image": 0,
        "cache_image_read": 500,
    }


def test_drawing_that_is_not_counted_makes_the_cost_a_lower_bound() -> None:
    nothing = b',"tool_usage":{"image_gen":{"input_tokens":0,"output_tokens":0,"total_tokens":0}}'
    assert meter_response(RESPONSE % nothing).extras.unpriced == ("image_generation_call",)


@given(calls=st.integers(0, 5), used=st.integers(0, 5), read=st.integers(0, 1_000_000), written=st.integers(0, 2_048))
def test_what_is_held_covers_every_call_of_another_model(calls: int, used: int, read: int, written: int) -> None:
    tools = HostedTools(tools=(replace(ADVISOR, max_calls=5),))
    price = with_other("advisor_message", "claude-opus-4-8", "claude-haiku-4-5")
    hold = Hold(price=price, input_tokens=1_000, context_window=200_000, tools=tools)
    assert hold.unpriced is None
    advice = [ADVICE | {"input_tokens": read, "output_tokens": written}] * min(calls, used)
    extras = parse_extras({"input_tokens": 1_000, "output_tokens": 100, "iterations": advice}, None)
    _, breakdown = charge(TokenUsage(input=1_000, output=100), price, extras)
    assert breakdown is not None
    assert hold.nano_usd(100, calls) >= breakdown.total_nano_usd


def test_another_model_without_a_price_has_no_bound() -> None:
    tools = HostedTools(tools=(ADVISOR,))
    assert tools.unpriced(price_of("claude-haiku-4-5")) == ADVISOR.field


RESPONSE = (
    b'{"id":"r","model":"m","status":"completed","service_tier":"priority","usage":{"input_tokens":1,"output_tokens":1},'
    b'"output":[{"type":"web_search_call","action":{"type":"search"}},{"type":"web_search_call","action":{"type":'
    b'"open_page"}},{"type":"web_search_call"},{"type":"file_search_call"},{"type":"code_interpreter_call",'
    b'"container_id":"c"},{"type":"code_interpreter_call","container_id":"c"},{"type":"image_generation_call"},'
    b'{"type":"shell_call","environment":{"type":"local"}},{"type":"message"}]%b}'
)


def test_a_responses_calls_are_counted_as_they_are_billed() -> None:
    extras = meter_response(RESPONSE % b"").extras
    assert extras.uses == {"web_search": 2, "file_search": 1, "container": 1}
    assert extras.unpriced == ("image_generation_call",)
    assert extras.terms == {"service_tier": "priority"}


def test_the_providers_own_count_of_searches_is_used() -> None:
    extras = meter_response(RESPONSE % b',"tool_usage":{"web_search":{"num_requests":5}}').extras
    assert extras.uses["web_search"] == 5


def test_a_stream_of_a_response_that_is_cut_has_the_calls_so_far() -> None:
    reader = ResponsesReader()
    done = (
        b'data: {"type":"response.output_item.done","item":{"type":"web_search_call","action":{"type":"search"}}}\n\n'
    )
    for event in events_of(done * 2):
        reader.take(event)
    assert reader.extras.uses == {"web_search": 2}


def test_a_response_in_the_background_costs_nobody_knows_what() -> None:
    metered = meter_response(b'{"id":"r","model":"m","status":"queued","output":[],"usage":null}')
    assert (metered.usage, metered.extras.unpriced) == (TokenUsage(), ("queued",))


@pytest.mark.parametrize(
    ("cost", "nano_usd"),
    [
        (b"0.00042", 420_000),
        (b"1e-7", 100),
        (b'{"total_cost":0.5}', 500_000_000),
        (b"-1", None),
        (b"1e99", None),
        (b'"free"', None),
        (b"null", None),
        (b"true", None),
    ],
)
def test_a_sellers_cost_is_read_exactly_or_not_at_all(cost: bytes, nano_usd: int | None) -> None:
    body = b'{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"cost":%b}}' % cost
    assert meter_chat_response(body).extras.provider_cost_nano_usd == nano_usd


def test_an_answer_that_cites_the_web_searched_it_once() -> None:
    body = b'{"id":"c","choices":[{"message":{"content":"%b","annotations":%b}}],"usage":{"prompt_tokens":1}}'
    cited = body % (b"x", b'[{"type":"url_citation"},{"type":"url_citation"}]')
    assert meter_chat_response(cited).extras.uses == {"web_search": 1}
    quoted = body % (b'\\"url_citation\\"', b"[]")
    assert meter_chat_response(quoted).extras.uses == {}


def test_answers_that_make_up_one_used_what_each_of_them_did() -> None:
    one = Extras(uses={"web_search": 1}, provider_cost_nano_usd=NanoUsd(5), unpriced=("x",))
    both = joined([one, Extras(uses={"web_search": 2}, provider_cost_nano_usd=NanoUsd(7), unpriced=("x", "y"))])
    assert (both.uses, both.provider_cost_nano_usd, both.unpriced) == ({"web_search": 3}, 12, ("x", "y"))
    assert joined([one, NO_EXTRAS]).provider_cost_nano_usd is None


# What is held

SEARCHES = HostedTool(field="tools[0]", use="web_search", limited_by="request")
SEARCHES_SELF = HostedTool(field="tools[0]", use="web_search", limited_by="tool", max_calls=3)


def test_a_call_holds_its_fee_and_one_more_reading_of_the_window() -> None:
    price = price_of("gpt-5")
    hold = Hold(price=price, input_tokens=0, context_window=400_000, tools=HostedTools(tools=(SEARCHES,)))
    assert hold.tools.most_calls == DEFAULT_CALLS
    assert hold.nano_usd(0, 1) == 10_000_000 + 400_000 * 1_250
    assert hold.nano_usd(0, 5) == 5 * hold.nano_usd(0, 1)


def test_a_summary_holds_one_more_reading_and_its_own_length_and_so_again_for_each_call() -> None:
    price = Price(provider="p", model="m", source="s", prices=ClassPrices(input=10**6, output=2 * 10**6))
    plain = Hold(price=price, input_tokens=100, context_window=1_000)
    summarized = replace(plain, summary_reading_tokens=150, summary_tokens=70)
    assert summarized.nano_usd(10, 0) - plain.nano_usd(10, 0) == 150 + 2 * 70
    tools = HostedTools(tools=(HostedTool(field="f", limited_by="tool"),))
    plain, summarized = replace(plain, tools=tools), replace(summarized, tools=tools)
    assert summarized.nano_usd(10, 3) - plain.nano_usd(10, 3) == 150 + 3 * 1_000 + 2 * 4 * 70
    assert summarized.output_within(summarized.nano_usd(10, 3), 3) == 10


def test_a_predicted_answer_is_held_as_output() -> None:
    price = Price(provider="p", model="m", source="s", prices=ClassPrices(input=10**6, output=2 * 10**6))
    predicted = Hold(price=price, input_tokens=100, predicted_tokens=30, context_window=1_000)
    assert predicted.nano_usd(10, 0) == 100 + 2 * 40
    assert predicted.output_within(predicted.nano_usd(10, 0), 0) == 10


def test_the_calls_are_lowered_before_the_output() -> None:
    tools = HostedTools(tools=(SEARCHES,), max_calls=8)
    hold = Hold(price=price_of("gpt-5"), input_tokens=0, context_window=400_000, tools=tools)
    room = hold.nano_usd(10_000, 3)
    assert (hold.calls_within(room, 10_000), hold.output_within(room, 3)) == (3, 10_000)
    assert hold.calls_within(hold.nano_usd(10, 1), 10_000) == 1


@settings(max_examples=200)
@given(
    st.sampled_from(["gpt-5", "gpt-4o", "gpt-5.4", "claude-opus-4-8", "claude-sonnet-4-5", "gpt-5-search-api"]),
    st.sampled_from([SEARCHES, SEARCHES_SELF]),
    st.integers(1, 8),
    st.data(),
)
def test_the_hold_is_never_below_the_largest_bill(
    model: str, tool: HostedTool, calls: int, data: st.DataObject
) -> None:
    standard = price_of(model)
    tools = HostedTools(tools=(tool,), max_calls=calls)
    terms = data.draw(
        st.sampled_from([{}, *({name: value} for name, _, value in (v.term.partition("=") for v in standard.variants))])
    )
    price, unknown = on_asked_terms(tools.priced(standard), terms)
    assert unknown is None
    window, text, cap = 50_000, data.draw(st.integers(0, 50_000)), data.draw(st.integers(0, 5_000))
    hold = Hold(price=price, input_tokens=text, context_window=window, tools=tools)
    uses = data.draw(st.integers(0, min(tools.most_calls, tool.max_calls or tools.most_calls)))
    read = text + data.draw(st.integers(0, window)) * uses
    cached = data.draw(st.integers(0, read))
    usage = TokenUsage(input=read - cached, cache_write_1h=cached, output=data.draw(st.integers(0, cap)))
    served = data.draw(st.sampled_from([{}, terms]))
    _, breakdown = charge(
        usage, tools.priced(standard), Extras(uses={"web_search": uses} if uses else {}, terms=served)
    )
    assert breakdown is not None
    assert breakdown.unpriced == ()
    assert hold.nano_usd(cap, tools.most_calls) >= breakdown.total_nano_usd
