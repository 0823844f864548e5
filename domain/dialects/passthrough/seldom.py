"""Reads the fields that few requests have. One look finds if a request has any of them; only then are they read."""

from typing import Any

from msgspec import Struct

from domain.call_origin import session_in
from domain.dialects.passthrough.compaction import (
    FIELD,
    PARAMETER,
    PREDICTION,
    Compaction,
    compaction_of,
    unknown_prediction,
)
from domain.dialects.passthrough.fields import (
    BETA_FIELDS,
    EXTERNAL_CONTEXT_FIELDS,
    EXTRA_COST_FIELDS,
    MCP_FIELD,
    SEARCH_FIELD,
    STANDARD_TERMS,
)
from domain.dialects.passthrough.hosted import terms_of, unpriced_modality, writes_audio

_CHANGES_CONTENT = (*EXTRA_COST_FIELDS, SEARCH_FIELD, MCP_FIELD, PARAMETER, PREDICTION)
"""Fields with which the model may be shown more than the request has, or less."""
SELDOM_FIELDS = frozenset(
    {*EXTERNAL_CONTEXT_FIELDS, *_CHANGES_CONTENT, *STANDARD_TERMS, *BETA_FIELDS, FIELD}
    | {"truncation", "modalities", "audio", "metadata", "prompt_cache_key"}
)
"""All that name stored context, that `Seldom.of` reads, and `hosted_tools_of` of a request that has no tools."""


class Seldom(Struct, frozen=True, kw_only=True):
    """The values of the fields that few requests have. An absent field has its default."""

    extra_cost_field: str | None = None
    """The first that turns on something whose cost has no known bound. An empty object turns it on as well."""
    changes_content: bool = False
    """The provider may show the model more than the request has, or less."""
    compaction: Compaction | None = None
    terms: dict[str, str] = {}
    writes_audio: bool = False
    betas: tuple[str, ...] = ()
    session: str | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Seldom":
        """Read the fields of a request."""
        costs_extra = _turned_on(fields, EXTRA_COST_FIELDS)
        return cls(
            extra_cost_field=costs_extra[0] if costs_extra else unknown_prediction(fields) or unpriced_modality(fields),
            changes_content=fields.get("truncation") not in (None, "disabled")
            or not _keeps_all(fields.get(FIELD))
            or bool(_turned_on(fields, _CHANGES_CONTENT)),
            compaction=compaction_of(fields),
            terms=terms_of(fields),
            writes_audio=writes_audio(fields),
            betas=tuple([str(fields[name]) for name in BETA_FIELDS if fields.get(name)]),
            session=session_in(fields),
        )


NOTHING_SELDOM = Seldom()


def _turned_on(fields: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """Those of the fields that turn something on, as an empty object does."""
    return [name for name in names if name in fields and fields[name] not in (None, [], False)]


def _keeps_all(management: Any) -> bool:
    edits = management.get("edits") if isinstance(management, dict) else management
    return not edits or (
        isinstance(edits, list) and all(isinstance(edit, dict) and edit.get("keep") == "all" for edit in edits)
    )
