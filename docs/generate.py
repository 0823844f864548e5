"""Writes the reference pages from the code that they describe. `make docs`; a test notices when they drift."""

import ast
import inspect
from pathlib import Path
from types import ModuleType

import msgspec

from api.native.errors import STATUSES
from docs import metrics_page, models_page
from domain import errors, events, models
from domain.dialects.field_rules import FieldRule
from domain.dialects.registry import CODECS, DIALECTS
from domain.dialects.translation import Translated
from domain.routing import ANTHROPIC, OPENAI
from infra.settings import SETTINGS

REFERENCE = Path(__file__).parent / "reference"
_GENERATED = "Written by `make docs` from `{source}`; change it there.\n"


def pages() -> dict[str, str]:
    """Every page's name and text."""
    return {
        "settings.md": _settings(),
        "events.md": _events(),
        "errors.md": _errors(),
        "metrics.md": _page(
            "Metrics", "api/metrics.py`, `workers/figures.py`, `projections/figures.py", metrics_page.lines()
        ),
        "models.md": _page(
            "Models", "domain/model_table.toml", models_page.lines(_written_fields(models)["ModelTraits"])
        ),
        "translation.md": _translation(),
    }


_SETTINGS_TABLE = ("| variable | says | allowed | default |", "|---|---|---|---|")


def _settings() -> str:
    rows = [
        f"| `{says.name}` | {says.what} | {says.allowed} | {f'`{setting.default}`' if setting.default else ''} |"
        for setting in SETTINGS
        for says in (setting.variable,)
    ]
    files = ", ".join(f"`{says.file_name}`" for says in (one.variable for one in SETTINGS) if says.file_name)
    lines = [*_SETTINGS_TABLE, *rows, "", f"A secret can stand in a file whose path another variable has: {files}."]
    return _page("Settings", "infra/settings/", lines)


def _events() -> str:
    lines = [_fenced(inspect.getdoc(events) or "")]
    written = _written_fields(events)
    for name, kind in events.EVENT_TYPES.items():
        lines += [
            "",
            f"## {name}",
            "",
            _one_line(inspect.getdoc(kind) or ""),
            "",
            "| field | type | |",
            "|---|---|---|",
        ]
        for one in reversed(kind.__mro__):
            for field, (annotation, sentence) in written.get(one.__name__, {}).items():
                lines.append(f"| `{field}` | {annotation} | {sentence} |")
    return _page("Events", "domain/events.py", lines)


def _errors() -> str:
    rows = [
        f"| `{kind.code}` | {next(STATUSES[one] for one in kind.__mro__ if one in STATUSES)} | `{kind.__name__}` | "
        f"{_one_line(inspect.getdoc(kind) or '')} |"
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.GatewayError) and "code" in vars(kind)
    ]
    return _page("Errors", "domain/errors.py", ["| code | HTTP | class | when |", "|---|---|---|---|", *rows])


_TRANSLATION = """\
A request to a provider of another dialect is translated. There is a section for each pair of dialects, with a row for
each field that does not simply mean the same in both. Every field is one of three:

- **carried**: the provider is asked for the same by its own means.
- **dropped**: leaving the field out does not change what is asked. The header `x-gateway-dropped` of the response and
  the request's record name it. With `x-gateway-translation: strict`, or a key whose `translation` is `strict`, it is
  refused. A field that no row names and that the vendor's API does not have is dropped as well.
- **refused**: without it, the answer would not be the one that was asked for. The status is 400, and the message says
  what to send instead.

The values in brackets say no more than an absent field does: they are neither told nor refused.
"""
_CLIENTS = {
    ("openai", "chat"): "OpenAI's chat completions",
    ("openai", "responses"): "OpenAI's responses",
    ("anthropic", "chat"): "Anthropic's messages",
    ("native", "chat"): "the native API",
}
_PROVIDERS = {OPENAI: "a provider with OpenAI's API", ANTHROPIC: "a provider with Anthropic's API"}


_FULLER = (
    "Where chat completions would refuse a request to OpenAI, or take it with less effort. Any other is passed on as "
    "it came. As the client spells it:"
)
_FROM_ANY_CLIENT = "from any client whose request chat completions would refuse or take with less effort"


def _translation() -> str:
    lines = [_TRANSLATION]
    for client in CODECS:
        name = _CLIENTS.get((client.dialect, client.operation))
        if name is None:
            continue
        for kind, provider in _PROVIDERS.items():
            translation = DIALECTS.choose(client, kind)
            if not isinstance(translation, Translated) or translation.provider is None:
                continue
            lines += [
                f"## From {name} to {provider}",
                "",
                *_rules("As the client spells it:", client.client_rules),
                *_rules(
                    "In the words of the native API, by what the model takes:", translation.provider.provider_rules
                ),
            ]
        if client.fuller_operation is not None:
            fuller = DIALECTS.codec(client.dialect, client.fuller_operation)
            lines += [
                f"## From {name} to OpenAI's Responses API",
                "",
                *_rules(_FULLER, client.client_rules),
                *_rules(f"In the words of the native API, {_FROM_ANY_CLIENT}:", fuller.provider_rules),
            ]
    return _page("What is translated", "domain/dialects", lines)


def _rules(title: str, rules: tuple[FieldRule, ...]) -> list[str]:
    if not rules:
        return []
    return [title, "", "| field | fate | how |", "|---|---|---|", *map(_rule, rules), ""]


def _rule(rule: FieldRule) -> str:
    harmless = ", ".join(f"`{msgspec.json.encode(value).decode()}`" for value in rule.harmless)
    return f"| `{rule.field}` | {rule.fate} | {_one_line(rule.how)}{f' ({harmless})' if harmless else ''} |"


def _page(title: str, source: str, lines: list[str]) -> str:
    return "\n".join([f"# {title}", "", _GENERATED.format(source=source), *lines, ""])


def _written_fields(module: ModuleType) -> dict[str, dict[str, tuple[str, str]]]:
    """By class and field: the type as it is written, and the sentence below it."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        fields = found[node.name] = {}
        for field, below in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                match below:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        sentence = _one_line(text)
                    case _:
                        sentence = ""
                fields[ast.unparse(field.target)] = (_one_line(ast.unparse(field.annotation)), sentence)
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for page, content in pages().items():
        (REFERENCE / page).write_text(content, encoding="utf-8")
