"""What is known of models comes from one table, by name, by family, or from the operator."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo
from hypothesis import given
from hypothesis import strategies as st

from domain.canonical.chat import ChatRequest, UserMessage
from domain.dialects.anthropic.render_request import render_chat_request
from domain.errors import UnknownModel
from domain.estimate import output_bound
from domain.model_table import Row, built_in_table
from domain.models import (
    DEFAULT_CONTEXT_WINDOW,
    LEAST_CAP,
    UNKNOWN_MAX_OUTPUT,
    ModelTraits,
    cap_when_unset,
    longest_answer,
    model_traits,
    retirement_notice,
    use_operators_models,
    widest_window,
)
from domain.routing import BUILT_IN, UPSTREAM_MODELS, NamedProvider, resolve_target
from infra.settings import SettingsError, load_settings
from tests.unit.test_docs import ROOT

LIBRARY = [
    (vendor.id, model)
    for vendor in get_snapshot().providers
    if vendor.id in {"openai", "anthropic"}
    for model in vendor.models
]
ROUNDED = {"gpt-4-32k", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-5.5", "gpt-5.5-pro"}
"""The library writes 1,000,000 or 32,000 where the vendor documents 1,047,576, 1,050,000 or 32,768."""
NOT_CHAT = {"images", "audio", "realtime", "moderation"}
SPECIFICATION = (
    "gpt-4o", "gpt-4o-mini", "gpt-4-turbo", "gpt-3.5-turbo", "claude-3.5-sonnet", "claude-3-opus", "claude-3-haiku",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _built_in_table() -> Iterator[None]:
    yield
    use_operators_models(b"[models]")


@pytest.mark.parametrize(("vendor", "model"), LIBRARY, ids=[model.id for _, model in LIBRARY])
def test_every_model_that_has_a_price_has_traits_and_the_window_that_the_price_library_knows(
    vendor: str, model: ModelInfo
) -> None:
    traits = model_traits(model.id, vendor)
    window = model.context_window
    assert traits.name
    if window is not None and traits.serves not in NOT_CHAT and model.id not in ROUNDED:
        assert traits.context_window == window


@pytest.mark.parametrize("row", built_in_table().rows.values(), ids=lambda row: row.name)
def test_every_row_can_be_read_and_says_where_it_was_read(row: Row) -> None:
    traits = model_traits(row.name)
    assert traits.is_listed
    assert set(row.sources) <= built_in_table().sources.keys()
    assert row.sources or row.vendor == "echo"
    assert (traits.replacement is None) == (traits.retires_on is None)
    assert traits.replacement is None or model_traits(traits.replacement).is_listed
    assert traits.default_effort is None or traits.default_effort in traits.efforts


@pytest.mark.parametrize(
    ("model", "truth"),
    [
        ("claude-opus-4-8", {"takes_temperature": False, "thinking": "adaptive", "max_output": 128_000}),
        ("claude-opus-4-7", {"takes_temperature": False, "takes_top_p": False, "takes_top_k": False}),
        ("claude-opus-4-6", {"takes_temperature": True, "thinking": "both", "takes_prefill": False}),
        ("claude-haiku-4-5", {"efforts": (), "thinking": "budget", "max_output": 64_000, "takes_prefill": True}),
        ("claude-sonnet-4-5", {"efforts": (), "takes_temperature_with_top_p": False, "max_temperature": 1.0}),
        ("claude-opus-4-5", {"efforts": ("low", "medium", "high"), "thinking": "budget"}),
        ("claude-opus-4-0", {"max_output": 32_000, "takes_temperature_with_top_p": True}),
        ("claude-3-haiku-20240307", {"max_output": 4_096, "thinking": "none"}),
        ("claude-opus-5-5", {"takes_forced_tool": False, "takes_thinking_disabled": False}),
        ("claude-sonnet-5-5", {"takes_forced_tool": False, "takes_thinking_between_tools": True}),
        ("claude-sonnet-5", {"takes_forced_tool": True, "thinks_by_default": True}),
        ("gpt-4o", {"efforts": (), "max_output": 16_384, "cap_field": "max_tokens", "takes_stop": True}),
        ("gpt-4", {"takes_structured_output": False, "takes_images": False}),
        ("o3", {"takes_stop": False, "takes_parallel_tool_calls": False, "system_role": "developer"}),
        ("o1", {"takes_stop": True, "takes_temperature": False, "cap_field": "max_completion_tokens"}),
        ("gpt-5", {"takes_stop": False, "takes_temperature": False, "efforts": ("minimal", "low", "medium", "high")}),
        ("gpt-5.1", {"default_effort": "none", "takes_sampling_at_effort_none": True, "chat_tools": "always"}),
        ("gpt-5-chat-latest", {"efforts": (), "takes_temperature": True, "takes_stop": True}),
        ("gpt-5.2-chat-latest", {"efforts": ("medium",), "takes_temperature": False, "max_output": 16_384}),
        ("gpt-5.4", {"chat_tools": "without_effort", "context_window": 1_050_000}),
        ("gpt-5.6-terra", {"chat_tools": "at_effort_none", "highest_chat_effort": "xhigh"}),
        ("gpt-6.1-sol", {"chat_tools": "never", "efforts": ("low", "medium", "high", "xhigh", "max")}),
        ("gpt-5.3-codex", {"is_responses_only": True}),
        ("gpt-4o-audio-preview-2025-06-03", {"takes_audio": True, "takes_structured_output": False}),
        ("text-embedding-3-small", {"serves": "embeddings"}),
        ("whisper-1", {"serves": "audio"}),
    ],
)
def test_what_the_vendors_document(model: str, truth: dict[str, object]) -> None:
    traits = model_traits(model)
    assert {field: getattr(traits, field) for field in truth} == truth


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("claude-opus-6-1", "claude-opus-5-5"),
        ("claude-opus-5-1", "claude-opus-5"),
        ("claude-haiku-7-20280101", "claude-haiku-5-5"),
        ("claude-zephyr-6", "claude-opus-5-5"),
        ("gpt-7-mini", "gpt-5.4-mini"),
        ("gpt-6.3-sol", "gpt-6.2-astra"),
        ("gpt-7", "gpt-5.6"),
        ("o5-mini", "o4-mini"),
        ("gpt-5.4-quick", "gpt-5.4"),
        ("gpt-7-quark", "gpt-6.2-astra"),
        ("gpt-4o-tomorrow", "gpt-4o"),
        ("text-embedding-4-large", ""),
        ("gpt-audio-2", "gpt-audio"),
    ],
)
def test_a_new_model_takes_what_the_newest_of_its_family_takes(model: str, row: str) -> None:
    traits = model_traits(model)
    assert (traits.name, traits.is_listed) == (row, False)


@pytest.mark.parametrize(
    ("spelled", "row"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("anthropic/claude-sonnet-4.5:beta", "claude-sonnet-4-5"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:acme::id", "gpt-4o-mini"),
        ("GPT-4o", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-3.5-turbo-16k-0613", "gpt-3.5-turbo"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o-2024-11-20", "gpt-4o"),
    ],
)
def test_a_model_is_known_by_the_names_that_sellers_give_it(spelled: str, row: str) -> None:
    assert model_traits(spelled).name == row


def test_sellers_who_put_a_vendor_before_the_model_sell_all_on_chat_completions() -> None:
    assert model_traits("gpt-5").cap_field == "max_completion_tokens"
    assert model_traits("openai/gpt-5").cap_field == "max_tokens"
    assert model_traits("openai/gpt-6.1-sol").chat_tools == "always"
    assert model_traits("openai/gpt-5-pro").is_responses_only is False


@pytest.mark.parametrize("kind", ["openai", "anthropic", "echo", None, "unheard-of"])
def test_a_model_that_nothing_is_known_of_has_lenient_traits(kind: str | None) -> None:
    traits = model_traits("llama-next", kind)
    assert (traits.name, traits.context_window, traits.max_output) == ("", None, None)
    assert traits.takes_temperature
    assert traits.takes_stop
    assert traits.takes_tools
    assert traits.thinks_unseen


@given(st.text(max_size=60), st.sampled_from(["openai", "anthropic", None]))
def test_any_name_has_traits(name: str, kind: str | None) -> None:
    assert isinstance(model_traits(name, kind), ModelTraits)


@given(
    st.sampled_from([row.name for row in built_in_table().rows.values()]),
    st.none() | st.integers(min_value=1, max_value=2_000_000),
)
def test_the_bound_of_an_answer_is_never_below_what_the_model_is_documented_to_write(
    model: str, library_window: int | None
) -> None:
    traits = model_traits(model)
    assert longest_answer(model, library_window) >= (traits.max_output or 0)
    assert widest_window(model, library_window) >= max(traits.context_window or 0, library_window or 0)
    asked = cap_when_unset(model, lambda: 0)
    assert traits.max_output in {None, 0} or output_bound(HELLO, model, library_window) >= asked


def test_no_bound_trusts_a_limit_that_is_only_the_familys() -> None:
    assert model_traits("claude-opus-9").max_output == 128_000
    assert longest_answer("claude-opus-9", None) == DEFAULT_CONTEXT_WINDOW
    assert longest_answer("claude-opus-9", 2_000_000) == 2_000_000


def test_the_bound_knows_the_window_that_a_beta_opens() -> None:
    assert widest_window("claude-sonnet-4-5", 200_000) == 1_000_000


HELLO = ChatRequest(messages=[UserMessage(content="hello")])


@pytest.mark.parametrize(
    ("model", "cap"),
    [
        ("claude-opus-4-8", 128_000),
        ("claude-sonnet-4-5-20250929", 64_000),
        ("claude-3-haiku-20240307", 4_096),
        ("claude-opus-6", 128_000),
        ("a-model-of-somebodys", UNKNOWN_MAX_OUTPUT),
    ],
)
def test_a_request_without_a_cap_is_sent_with_the_models_own(model: str, cap: int) -> None:
    assert render_chat_request(HELLO, model)["max_tokens"] == cap


def test_the_cap_of_an_older_model_leaves_room_for_its_input() -> None:
    assert cap_when_unset("claude-sonnet-4", lambda: 150_000) == 50_000
    assert cap_when_unset("claude-sonnet-4", lambda: 500_000) == LEAST_CAP
    assert cap_when_unset("claude-haiku-4-5", lambda: 500_000) == 64_000


def test_the_specifications_names_are_still_asked_for() -> None:
    for name in SPECIFICATION:
        target = resolve_target(name, {}, built_in=BUILT_IN)
        assert target.upstream_model == UPSTREAM_MODELS.get(name, name)


def test_a_retired_model_names_the_one_to_ask_instead() -> None:
    assert retirement_notice("claude-3-opus-20240229") == (
        "`claude-3-opus-20240229` is retired by its vendor (2026-01-05): ask for `claude-opus-5-5` instead"
    )
    assert (retirement_notice("gpt-4-32k", "gpt-4-32k") or "").endswith(
        ", or have it answer the name: GATEWAY_UPSTREAM_MODELS=gpt-4-32k=gpt-6.1-sol"
    )
    assert "gpt-6.1-sol" in (retirement_notice("gpt-4-32k") or "")
    assert "claude-sonnet-5-5" in (retirement_notice("claude-2.1") or "")
    assert "gpt-6-luna" in (retirement_notice("text-davinci-003") or "")
    assert retirement_notice("claude-opus-4-8") is None
    assert retirement_notice("claude-3-opus-of-mine") is None


class TestOperatorsFile:
    """`GATEWAY_MODELS_FILE`."""

    def test_changes_one_field_of_one_model(self) -> None:
        use_operators_models(b'[models."claude-opus-4-7"]\nmax_output = 7_000')
        assert model_traits("claude-opus-4-7-20260416").max_output == 7_000
        assert model_traits("claude-opus-4-7").takes_temperature is False
        assert model_traits("claude-opus-4-8").max_output == 128_000  # though its row is like the other

    def test_adds_a_model_like_another(self) -> None:
        use_operators_models(b'[models.my-deployment]\nlike = "gpt-5"\naliases = ["my-other"]')
        assert model_traits("my-deployment").cap_field == "max_completion_tokens"
        assert model_traits("my-other") == model_traits("my-deployment")

    def test_completes_the_row_of_a_family(self) -> None:
        use_operators_models(b'[models.gpt-9-mini]\nefforts = ["low"]')
        assert model_traits("gpt-9-mini").efforts == ("low",)
        assert model_traits("gpt-9-mini").takes_stop is False
        assert model_traits("gpt-9-mini").is_listed is False

    def test_makes_a_limit_one_to_bound_by(self) -> None:
        use_operators_models(b"[models.gpt-9-mini]\nmax_output = 9_000\ncontext_window = 10_000")
        assert longest_answer("gpt-9-mini", None) == 9_000
        assert widest_window("gpt-9-mini", None) == 10_000

    def test_the_example_on_the_page_is_one(self) -> None:
        page = (ROOT / "docs/reference/models.md").read_text(encoding="utf-8")
        use_operators_models(page.split("```toml\n")[1].split("```")[0].encode())
        assert model_traits("gpt-7-mini").max_output == 200_000
        assert model_traits("my-azure-deployment").default_effort == "none"
        assert model_traits("claude-opus-4-8").max_output == 64_000

    @pytest.mark.parametrize(
        ("document", "complaint"),
        [
            (b"models", "Expected"),
            (b"[models.a]\nlike = 'nobody'", "a is like nobody, which is no model of the table"),
            (b"[models.a]\nefforts = ['ultra']", "a: Invalid enum value 'ultra'"),
            (b"[models.a]\nmax_outptu = 3", "a: Object contains unknown field `max_outptu`"),
            (b"[models.a]\nmax_output = -3", "a: Expected `int` >= 0"),
            (b"[models.a]\naliases = 3", "Expected `array`"),
            (b"[vendors.a]\n[models]", "unknown field `vendors`"),
        ],
    )
    def test_a_wrong_one_changes_nothing_and_says_why_in_a_line(self, document: bytes, complaint: str) -> None:
        with pytest.raises(ValueError) as refused:  # noqa: PT011  # the message is looked at below
            use_operators_models(
                b"[models.gpt-4o]\nmax_output = 1\n" + document if b"[models.a]" in document else document
            )
        assert complaint in str(refused.value)
        assert "\n" not in str(refused.value)
        assert model_traits("gpt-4o").max_output == 16_384

    def test_a_file_that_cannot_be_read_stops_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"GATEWAY_MODELS_FILE is .* a TOML file that can be read"):
            load_settings({"GATEWAY_MODELS_FILE": str(tmp_path / "absent.toml")})


@pytest.mark.parametrize("model", ["text-davinci-003", "chat-latest", "daybreak-red-latest", "omni-moderation-latest"])
def test_a_listed_model_is_routed_to_its_vendor_though_no_rule_fits_its_name(model: str) -> None:
    assert resolve_target(model, {}).provider == "openai"


@pytest.mark.parametrize("model", ["us.anthropic.claude-opus-4-8", "@cf/meta/llama", "Chat-Latest", "llama-3"])
def test_a_name_that_only_sellers_use_is_routed_to_no_vendor(model: str) -> None:
    with pytest.raises(UnknownModel):
        resolve_target(model, {})


def test_a_provider_that_lists_a_name_comes_before_the_table() -> None:
    mine = NamedProvider(name="mine", kind="openai", base_url="https://example.com", models=("chat-latest",))
    assert resolve_target("chat-latest", {}, [mine]).provider == "mine"
