"""What a passed-through request may be charged for beside its prompt and its answer: summaries of the context that the
provider has the model write, and the parts of a predicted answer that the model did not write.

Anthropic: https://platform.claude.com/docs/en/build-with-claude/compaction, 2026-10: one more reading and its output,
which `usage.iterations` has; once, and once more for each turn in which the model's own tools ran. OpenAI:
https://developers.openai.com/api/docs/guides/compaction, 2026-11: does not say what a compaction costs.
"""

import re
from typing import Any

from msgspec import Struct

FIELD = "context_management"
PARAMETER = "compaction"
PREDICTION = "prediction"
DEFAULT_TRIGGER_TOKENS = 150_000
"""The length of a prompt from which Anthropic compacts it, if the request says no other."""
SUMMARY_PROMPT_TOKENS = 4_096
"""What the provider's own instructions for a summary may add to the prompt: an assumption."""
_CLEARS = "clear_"
_COMPACTS = re.compile(r"compact_20\d{6}")


class Compaction(Struct, frozen=True, kw_only=True):
    """When a request has its context compacted."""

    field: str
    from_tokens: int
    """No shorter prompt is compacted. 0: any is."""
    has_price: bool
    """What it costs is known: the answer has its tokens."""

    def is_within_reach(self, input_tokens: int, output_tokens: int, *, runs_tools: bool) -> bool:
        """True if a prompt of so many tokens at most may be compacted. `output_tokens`: of the answer."""
        longest = input_tokens if self.has_price else input_tokens + output_tokens
        return runs_tools or longest >= self.from_tokens


def compaction_of(fields: dict[str, Any]) -> Compaction | None:
    """Return when the request has its context compacted; None if it does not.

    Edits that only remove something cost nothing. Those that are not known may cost anything.
    """
    parameter = fields.get(PARAMETER)
    if parameter not in (None, False, []):
        is_known = isinstance(parameter, dict) and parameter.get("type") == "summarize"
        return Compaction(field=PARAMETER, from_tokens=0, has_price=is_known)
    management = fields.get(FIELD)
    if isinstance(management, dict) and management.keys() <= {"edits"}:
        return _of_edits(management.get("edits"))
    if isinstance(management, list):
        return _of_openai(management)
    return Compaction(field=FIELD, from_tokens=0, has_price=False) if management else None


def _of_edits(edits: Any) -> Compaction | None:
    if not edits:
        return None
    if not isinstance(edits, list):
        return Compaction(field=FIELD, from_tokens=0, has_price=False)
    kinds = [str(edit.get("type")) if isinstance(edit, dict) else "" for edit in edits]
    others = [edit for edit, kind in zip(edits, kinds, strict=True) if not kind.startswith(_CLEARS)]
    if not others:
        return None
    is_known = all(_COMPACTS.fullmatch(kind) for kind in kinds if not kind.startswith(_CLEARS))
    return Compaction(field=FIELD, from_tokens=min(map(_trigger_tokens, others)) if is_known else 0, has_price=is_known)


def _trigger_tokens(edit: Any) -> int:
    trigger = edit.get("trigger")
    if trigger is None:
        return DEFAULT_TRIGGER_TOKENS
    is_length = isinstance(trigger, dict) and trigger.get("type") == "input_tokens"
    return _count(trigger.get("value")) if is_length else 0


def _of_openai(entries: list[Any]) -> Compaction | None:
    if not entries or all(isinstance(entry, dict) and str(entry.get("type")).startswith(_CLEARS) for entry in entries):
        return None
    lengths = [_count(entry.get("compact_threshold")) if isinstance(entry, dict) else 0 for entry in entries]
    are_known = all(isinstance(entry, dict) and entry.get("type") == "compaction" for entry in entries)
    return Compaction(field=FIELD, from_tokens=min(lengths) if are_known else 0, has_price=False)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def unknown_prediction(fields: dict[str, Any]) -> str | None:
    """The field of a predicted answer in a form that is not known: what it costs has no bound. None: there is none."""
    prediction = fields.get(PREDICTION)
    if prediction is None:
        return None
    is_known = isinstance(prediction, dict) and prediction.get("type") == "content" and len(prediction) == 2
    return None if is_known else PREDICTION
