"""What is wrong with a field, in the words of its form: the label that stands there, and what is allowed.

The API names fields as its callers write them, and types as msgspec has them. Nobody who fills in a form has seen
either.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from api.dashboard.playground import MAX_ANSWER_TOKENS, MAX_PROMPT_CHARS
from api.native.budgets import MAX_BUDGET_USD
from api.native.keys import MAX_BUDGET_WAIT_MS, MAX_CONCURRENCY, MAX_LIMIT, MAX_MODELS
from api.native.prices import MAX_USD_PER_1K
from api.native.providers import MAX_LISTED_MODELS
from domain.credentials import MAX_WEIGHT
from domain.errors import InvalidRequest
from domain.names import MAX_NAME_CHARS
from domain.routes import MAX_ATTEMPTS_PER_TARGET, MAX_TIMEOUT_S

_NAMED = re.compile(r"`(?P<field>\w+)[^`]*`")
_MISSING = "missing required field"
_UNKNOWN = "unknown field"


class FieldWords(Struct, frozen=True):
    """The label of a form's field, and its allowed values as the end of a sentence: "… must be `allowed`"."""

    label: str
    allowed: str


_BUDGET = (
    f"an amount from 0 to {MAX_BUDGET_USD:,} US dollars with at most nine decimals, such as 12.50; empty: no limit"
)
_PRICE = f"US dollars per 1,000 tokens, from 0 to {MAX_USD_PER_1K:,}, such as 0.0025"
_LIMIT = f"a whole number from 1 to {MAX_LIMIT:,}; empty: no limit"
_NAME = "1 to 200 characters in one line"
_SECRET = "the key as the provider gave it, without spaces"  # noqa: S105 - says what a key is
_ADDRESS = "an address that begins with https://"
_DAY = "a day, such as 2026-11-26"
_TIME = "a day and a time, such as 2026-11-26T06:05"
_TEXT = "at most 200 characters"
_OFFERED = "one of those in the list"
_TICK = "a tick, or none"
_SECONDS = f"a number of seconds above 0, up to {MAX_TIMEOUT_S:,}; empty: no such limit"
FIELDS: Mapping[str, FieldWords] = {
    "name": FieldWords("Name", _NAME),
    "role": FieldWords("Role", _OFFERED),
    "expiresAt": FieldWords("Works until", f"{_TIME}; empty: until it is revoked"),
    "dailyBudget": FieldWords("Daily budget", _BUDGET),
    "monthlyBudget": FieldWords("Monthly budget", _BUDGET),
    "installationDailyBudget": FieldWords("A day, under the installation's keys", _BUDGET),
    "outputCap": FieldWords("If the longest answer does not fit", _OFFERED),
    "budgetWaitMs": FieldWords(
        "Wait for what others hold", f"a whole number of milliseconds from 0 to {MAX_BUDGET_WAIT_MS:,}"
    ),
    "rateLimit": FieldWords("Requests a minute", _LIMIT),
    "tokenLimit": FieldWords("Tokens a minute", _LIMIT),
    "concurrencyLimit": FieldWords(
        "Requests at a time", f"a whole number from 1 to {MAX_CONCURRENCY:,}; empty: no limit"
    ),
    "models": FieldWords(
        "Models",
        f"one name a line, each of at most {MAX_NAME_CHARS} characters: up to {MAX_MODELS} for a key, "
        f"{MAX_LISTED_MODELS:,} for a provider; empty: all",
    ),
    "translation": FieldWords("What another vendor cannot do", _OFFERED),
    "idempotency": FieldWords("Retries of the vendors' SDKs", _OFFERED),
    "openaiKey": FieldWords("OpenAI", _SECRET),
    "anthropicKey": FieldWords("Anthropic", _SECRET),
    "alertUrl": FieldWords("Address of alerts", f"{_ADDRESS}; empty: none"),
    "cancelOnDisconnect": FieldWords("End a request whose caller disconnects", _TICK),
    "removeOpenaiKey": FieldWords("Remove it", _TICK),
    "removeAnthropicKey": FieldWords("Remove it", _TICK),
    "cache": FieldWords("Take it from the cache if it is there", _TICK),
    "kind": FieldWords("Its API is that of", _OFFERED),
    "baseUrl": FieldWords("Base URL", _ADDRESS),
    "apiKey": FieldWords("Key", _SECRET),
    "replacesBuiltin": FieldWords("Models with a built-in name", _OFFERED),
    "weight": FieldWords("Weight", f"a whole number from 0 to {MAX_WEIGHT:,}"),
    "model": FieldWords("Model", f"the name of a model, of 1 to {MAX_NAME_CHARS} characters"),
    "groups": FieldWords("Targets", "the names of models, at least one"),
    "targets": FieldWords("Targets", "the names of models, at least one"),
    "failOverOn": FieldWords("The next target is tried if", _OFFERED),
    "attempts": FieldWords("Attempts at each target", f"a whole number from 1 to {MAX_ATTEMPTS_PER_TARGET}"),
    "timeoutS": FieldWords("Longest attempt", _SECONDS),
    "firstByteTimeoutS": FieldWords("Longest wait for the first byte", _SECONDS),
    "idleTimeoutS": FieldWords("Longest silence within an answer", _SECONDS),
    "credential": FieldWords("Credential", "the name of one of the provider's credentials; empty: any of them"),
    "inputPer1K": FieldWords("Input", _PRICE),
    "outputPer1K": FieldWords("Output", _PRICE),
    "cachedInputPer1K": FieldWords("Input read from the provider's cache", f"{_PRICE}; empty: as plain input"),
    "cacheWritePer1K": FieldWords("Input written to it", f"{_PRICE}; empty: as plain input"),
    "audioInputPer1K": FieldWords("Audio in", f"{_PRICE}; empty: no price"),
    "audioOutputPer1K": FieldWords("Audio out", f"{_PRICE}; empty: no price"),
    "from": FieldWords("From", f"{_DAY}, of a price also with a time"),
    "to": FieldWords("To", _DAY),
    "since": FieldWords("Logged since", _TIME),
    "until": FieldWords("Logged until", _TIME),
    "keyId": FieldWords("Key that pays", _OFFERED),
    "prompt": FieldWords("Your words", f"1 to {MAX_PROMPT_CHARS:,} characters"),
    "maxTokens": FieldWords(
        "Longest answer", f"a whole number of tokens from 1 to {MAX_ANSWER_TOKENS:,}; empty: the model's own"
    ),
    "range": FieldWords("Range", "a number of days, such as 7"),
    "project": FieldWords("Project", _OFFERED),
    "key": FieldWords("Key", "the id of a key, such as key_…"),
    "status": FieldWords("Status", _OFFERED),
    "state": FieldWords("State", _OFFERED),
    "type": FieldWords("Type", _OFFERED),
    "stream": FieldWords("Stream", "the name of a stream, such as request-req_…"),
    "search": FieldWords("Name", _TEXT),
    "provider": FieldWords("Provider", _TEXT),
    "served": FieldWords("Answered by", _TEXT),
    "error": FieldWords("Error", _TEXT),
    "session": FieldWords("Session", _TEXT),
    "metadata": FieldWords("Metadata", "NAME=VALUE, such as team=search"),
    "cost": FieldWords("Costs at least", "US dollars, such as 0.05"),
    "latency": FieldWords("Takes at least", "a whole number of milliseconds"),
    "operation": FieldWords("Operation", "chat, embeddings or another of the API's calls"),
    "before": FieldWords("Before", "where a page of the list ends: the pages lead there"),
    "after": FieldWords("After", "where a page of the list begins: the pages lead there"),
    "owner": FieldWords("Of", _OFFERED),
    "differing": FieldWords("Show", _OFFERED),
    "metric": FieldWords("Show", _OFFERED),
    "group": FieldWords("By", _OFFERED),
    "then": FieldWords("and by", _OFFERED),
}


def in_form_words(error: InvalidRequest) -> InvalidRequest:
    """The same error of a type or a bound, in the form's words. A field that no form has keeps its own."""
    field = (error.field or "").partition("[")[0]
    words = FIELDS.get(field)
    if words is None or _UNKNOWN in error.message:
        return error
    if _MISSING in error.message:
        message = f"“{words.label}” is missing: {words.allowed}"
    else:
        message = f"“{words.label}” must be {words.allowed}"
    return InvalidRequest(message, field=field)


def in_words(message: str) -> str:
    """A message that names fields as the API does, with their labels instead."""
    return _NAMED.sub(_label, message)


def _label(found: "re.Match[str]") -> str:
    words = FIELDS.get(found["field"])
    return f"“{words.label}”" if words is not None else found[0]
