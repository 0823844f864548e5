"""The page of what is known of models, from their table."""

from collections.abc import Mapping

import msgspec

from domain.model_table import Row, built_in_table
from domain.models import ModelTraits, model_traits


def lines(fields: Mapping[str, tuple[str, str]]) -> list[str]:
    """The page. `fields`: of `ModelTraits`, each with its type and the sentence that explains it."""
    table = built_in_table()
    rows = [_model(row, table.vendors[row.vendor]) for row in table.rows.values()]
    explained = [
        f"| `{field}` | {annotation.replace('|', 'or')} | `{_toml(getattr(ModelTraits(), field))}` | {sentence} |"
        for field, (annotation, sentence) in fields.items()
        if field not in _NOT_SAID
    ]
    return [
        _RULES,
        "",
        "| model | window | longest answer | efforts | thinking | yes | no | retired: ask instead | sources |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        *(f"All of {vendor}: {_common(common)}." for vendor, common in table.vendors.items() if common),
        "",
        "## Fields",
        "",
        "| field | type | default | |",
        "|---|---|---|---|",
        *explained,
        "",
        "## Sources",
        "",
        "| key | where | seen |",
        "|---|---|---|",
        *(f"| {key} | <{source.url}> | {source.seen} |" for key, source in table.sources.items()),
    ]


_RULES = """\
What the gateway knows of a model decides what a translated request to it may have (a temperature, an effort, stops),
the cap that is sent where one must be and the caller sets none, and the bound of what a request can cost. It has no
prices.

- A row stands for its name, for the names beside it, and for dated snapshots. Names as other sellers write them mean
  the same model: `claude-sonnet-4.5`, `us.anthropic.claude-sonnet-4-5-20250929-v1:0`, `ft:gpt-4o:…`.
- A name without a row takes the row of its family: `claude-opus-6` that of the newest Opus, `gpt-7-mini` that of the
  newest mini. Bounds do not trust a limit that is only the family's: there, such a model answers as long as its window.
- A name of no known family takes what most models take.
- An operator knows better: `GATEWAY_MODELS_FILE` names a file of rows, which every process reads when it starts.

```toml
[models.gpt-7-mini]            # begins with the row of its family
max_output = 200_000
efforts = ["none", "low", "high"]

[models.my-azure-deployment]
like = "gpt-5.2"

[models."claude-opus-4-8"]     # the built-in row, but for one field
max_output = 64_000
```

A model that its vendor has retired is asked for all the same. Where the vendor answers that there is none, the error
names the one to ask instead. `GATEWAY_UPSTREAM_MODELS` lets another model answer the name.

The columns *yes* and *no* have the fields, explained below, in which a model differs from its vendor's others."""
_NOT_SAID = frozenset({"name", "is_listed", "is_operators"})
"""Fields that no row says."""
_IN_COLUMNS = frozenset(
    {"context_window", "max_output", "efforts", "thinking", "replacement", "retires_on", "max_temperature"} | _NOT_SAID
)


def _model(row: Row, common: Mapping[str, object]) -> str:
    traits = model_traits(row.name)
    lenient = msgspec.convert(common, ModelTraits)
    differing = {
        field: getattr(traits, field)
        for field in ModelTraits.__struct_fields__
        if field not in _IN_COLUMNS and getattr(traits, field) != getattr(lenient, field)
    }
    cells = [
        "<br>".join(f"`{name}`" for name in (row.name, *row.aliases)),
        _tokens(traits.context_window),
        _tokens(traits.max_output),
        ", ".join(traits.efforts),
        "" if traits.thinking == "none" else traits.thinking,
        _common({field: value for field, value in differing.items() if value is not False}),
        ", ".join(f"`{field}`" for field, value in differing.items() if value is False),
        f"{traits.retires_on}: `{traits.replacement}`" if traits.replacement else "",
        ", ".join(row.sources),
    ]
    return f"| {' | '.join(cells)} |"


def _common(fields: Mapping[str, object]) -> str:
    said = (f"`{field}`" if value is True else f"`{field} = {_toml(value)}`" for field, value in fields.items())
    return ", ".join(said)


def _tokens(count: int | None) -> str:
    return f"{count:,}" if count is not None else ""


def _toml(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case tuple():
            return str(list(value))
        case _:
            return f"{value:,}".replace(",", "_") if isinstance(value, int) else str(value)
