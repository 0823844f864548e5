"""What is known of models: their limits, and which fields a request to them may have. No prices.

`model_table.toml` has a row for each model, with its source. A model that no row names takes what the newest model of
its family takes, and one of no known family what `DEFAULTS` say. Used for translation, for the bound of a request whose
caller sets no output cap, and for the cap that Anthropic insists on.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from domain.model_table import Row, base_name, built_in_table

Thinking = Literal["none", "budget", "adaptive", "both"]
"""How a model of Anthropic's is asked to think: not at all, by `thinking.budget_tokens`, by `thinking: adaptive` with
an effort, or either way."""
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
CapField = Literal["max_tokens", "max_completion_tokens"]
Count = Annotated[int, Meta(ge=0)]
SystemRole = Literal["system", "developer"]
ChatTools = Literal["always", "without_effort", "at_effort_none", "never"]
"""When OpenAI's chat completions take function tools for a model: always, only in a request without a reasoning effort
(`none` is one, too), only with the effort `none`, or never. Its Responses API always takes them: what chat completions
do not take is asked there."""
Serves = Literal["chat", "embeddings", "completions", "images", "audio", "realtime", "moderation"]
"""What a model is asked for."""

DEFAULT_CONTEXT_WINDOW = 1_050_000
"""For an unknown model: the largest window of a listed model."""
UNKNOWN_MAX_OUTPUT = 8_192
"""The cap sent for a model whose longest answer is unknown, where a request must have one."""
LEAST_CAP = 4_096
"""A cap that leaves room for nearly every input in the windows of the models that mind."""
MAX_CACHED_TRAITS = 4_096


class ModelTraits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model takes and how much. The defaults are lenient: what an unknown model takes."""

    name: str = ""
    """The row that says so; empty: none does."""
    is_listed: bool = False
    """The model has a row of its own. If False, the traits are those of its family: good to ask by, not to bound by."""
    is_operators: bool = False
    """The row is the operator's."""
    serves: Serves = "chat"
    context_window: Count | None = None
    """Tokens that it reads and writes at most; None: unknown."""
    long_context_window: Count | None = None
    """The window that the beta `context-1m` opens, at providers that still have it; None: no larger one."""
    max_output: Count | None = None
    """Tokens that it writes at most; None: unknown."""
    efforts: tuple[Effort, ...] = ()
    """The levels of reasoning effort that it takes, from the least to the most; empty: it takes no such field."""
    default_effort: Effort | None = None
    """What it does when asked for none; None: unknown, or it takes none."""
    highest_chat_effort: Effort | None = None
    """The highest level on OpenAI's chat completions, where that is lower than on its Responses API; None: the same."""
    thinking: Thinking = "none"
    min_thinking_budget: Count = 1_024
    """The least `thinking.budget_tokens`. It must be below `max_tokens`, too."""
    thinks_by_default: bool = False
    """It thinks in answer to a request that does not say whether to."""
    takes_thinking_disabled: bool = True
    """`thinking: {"type": "disabled"}`: some always think, and refuse it."""
    takes_thinking_between_tools: bool = False
    """`thinking: {"type": "between_tools"}`, by which some are asked not to think before they answer."""
    highest_effort_without_thinking: Effort | None = None
    """The highest effort beside a thinking that is turned off; None: any."""
    thinks_unseen: bool = True
    """It may charge for output that it does not show."""
    takes_temperature: bool = True
    max_temperature: Annotated[float, Meta(ge=0)] = 2.0
    takes_top_p: bool = True
    takes_temperature_with_top_p: bool = True
    takes_top_k: bool = True
    takes_sampling_at_effort_none: bool = False
    """Takes a temperature, `top_p` and log probabilities where the effort is `none`, whatever the fields above say."""
    takes_stop: bool = True
    max_stop_sequences: Count | None = None
    """None: no documented limit."""
    takes_tools: bool = True
    max_tools: Count | None = None
    """None: no documented limit."""
    chat_tools: ChatTools = "always"
    takes_forced_tool: bool = True
    """A tool choice that says that a tool must be called, or which."""
    takes_parallel_tool_calls: bool = True
    """The field that allows or forbids several calls at a time."""
    takes_structured_output: bool = True
    """A JSON schema for the answer: Anthropic's `output_config.format`, OpenAI's `response_format: json_schema`."""
    takes_images: bool = True
    takes_pdf: bool = True
    takes_audio: bool = True
    takes_prefill: bool = True
    """A conversation that ends with the assistant's own words, which the answer continues."""
    takes_several_choices: bool = True
    """`n` above 1."""
    cap_must_fit_window: bool = False
    """A cap that, with the input, is more than the window is refused. Others take it and stop at the window's end."""
    cap_field: CapField = "max_tokens"
    """The field of OpenAI's chat completions that limits the answer."""
    system_role: SystemRole = "system"
    """The role of instructions in OpenAI's chat completions."""
    is_responses_only: bool = False
    """OpenAI serves it on `/v1/responses` alone. The gateway asks it there, whatever its client speaks."""
    replacement: str | None = None
    """For a model that its vendor retired, or will: what to ask instead."""
    retires_on: str | None = None
    """The day that the vendor announced, YYYY-MM-DD."""


_TABLE = built_in_table()
"""What a process knows of models. The one thing in it that changes, once, before its first request: an operator knows
what the table does not (`use_operators_models`)."""


def _traits_of(row: Row, *, is_listed: bool = False) -> ModelTraits:
    return msgspec.convert(
        {**row.traits, "name": row.name, "is_operators": not row.vendor, "is_listed": is_listed}, ModelTraits
    )


DEFAULTS: dict[str, ModelTraits] = {
    kind: msgspec.convert(fields, ModelTraits) for kind, fields in _TABLE.unknown.items()
}
"""Of a model that nothing is known of, by the kind of its provider."""
DEFAULT = ModelTraits()
"""Of a model that nothing is known of, nor of the kind of its provider."""


_AT_OTHER_SELLERS: dict[str, Any] = {
    "cap_field": "max_tokens",
    "chat_tools": "always",
    "highest_chat_effort": None,
    "is_responses_only": False,
}
"""Of a model whose name has its vendor before it, `openai/gpt-5`: they sell all on chat completions."""


@lru_cache(maxsize=MAX_CACHED_TRAITS)
def model_traits(upstream_model: str, kind: str | None = None) -> ModelTraits:
    """Return what is known of a model, by the provider's name for it. `kind`: of its provider, if it is known.

    Never fails: a model that nothing is known of has the traits that most have. Takes about 0.1 µs.
    """
    found = _TABLE.find(upstream_model)
    if found is None:
        return DEFAULT if kind is None else DEFAULTS.get(kind, DEFAULT)
    traits = _traits_of(found.row, is_listed=found.is_listed)
    return replace(traits, **_AT_OTHER_SELLERS) if "/" in upstream_model else traits


def listed_vendor(model: str) -> str | None:
    """The vendor of a model that the built-in table lists by this very name; None if there is none."""
    found = _TABLE.find(model)
    is_plain = found is not None and found.is_listed and base_name(model) == model
    return found.row.vendor or None if found is not None and is_plain else None


def use_operators_models(document: bytes) -> None:
    """Let an operator's rows, in the form of `model_table.toml`, stand before the built-in ones in this process.

    Called once, when a process starts: every process of an installation reads the same file.

    Raises:
        ValueError: says in a line what is wrong with the document. Nothing has changed then.

    """
    global _TABLE  # noqa: PLW0603  # see there
    table = built_in_table()
    for row in table.override(document):
        try:
            _traits_of(row)
        except msgspec.ValidationError as error:
            raise ValueError(f"{row.name}: {error}") from error
    _TABLE = table
    model_traits.cache_clear()


def retirement_notice(upstream_model: str, asked_as: str | None = None) -> str | None:
    """What to ask, or to set, instead of a model that its vendor retires, in a sentence; None for any other model.

    `asked_as`: the name that the caller knows it by, if the operator can let another model answer that name.
    """
    traits = model_traits(upstream_model)
    if not traits.is_listed or traits.replacement is None:
        return None
    day = f" ({traits.retires_on})" if traits.retires_on else ""
    notice = f"`{upstream_model}` is retired by its vendor{day}: ask for `{traits.replacement}` instead"
    if asked_as is None:
        return notice
    return f"{notice}, or have it answer the name: GATEWAY_UPSTREAM_MODELS={asked_as}={traits.replacement}"


def cap_when_unset(upstream_model: str, input_bound: Callable[[], int]) -> int:
    """The cap of a request that must have one and whose caller set none: the model's own limit, in tokens.

    Older models of Anthropic's refuse a cap that, with the input, is more than their window. Only they call
    `input_bound`; where even the bound leaves little room, the cap is what such models were once asked for by default.
    """
    traits = model_traits(upstream_model)
    cap = traits.max_output or UNKNOWN_MAX_OUTPUT
    if traits.cap_must_fit_window and traits.context_window is not None:
        return min(cap, max(traits.context_window - input_bound(), LEAST_CAP))
    return cap


MAX_UNSEEN_TOKENS_PER_S = 1_000
"""Hidden thinking tokens per second: an assumption, since no vendor publishes a bound."""


def may_think_unseen(upstream_model: str) -> bool:
    """Return True if the model may charge for output that it does not show, as an unknown model may."""
    return model_traits(upstream_model).thinks_unseen


def longest_answer(upstream_model: str, context_window: int | None) -> int:
    """The most tokens that a model answers with when the caller sets no cap. `context_window`: of the price library.

    A limit that is only its family's is none to bound by: a new model may write more than its elders.
    """
    traits = model_traits(upstream_model)
    if traits.is_listed and traits.max_output is not None:
        return traits.max_output
    return widest_window(upstream_model, context_window)


def usual_window(upstream_model: str, context_window: int | None) -> int:
    """The most tokens that a model reads of a request that asks for no longer window: as `widest_window` without it."""
    traits = model_traits(upstream_model)
    known = max(traits.context_window or 0, context_window or 0)
    return known if context_window or (traits.is_listed and known) else max(known, DEFAULT_CONTEXT_WINDOW)


def widest_window(upstream_model: str, context_window: int | None) -> int:
    """The most tokens that a model reads: the documented window or the price library's, whichever is wider.

    Of a model that neither has, the largest window of a listed one. With the beta `context-1m`, which a request may ask
    for, some models have a wider one: that counts.
    """
    traits = model_traits(upstream_model)
    known = max(traits.context_window or 0, traits.long_context_window or 0, context_window or 0)
    return known if context_window or (traits.is_listed and known) else max(known, DEFAULT_CONTEXT_WINDOW)
