"""The table of models: its rows, and which of them a name means. Does not say what a trait is for: `models.py` does."""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import msgspec
from msgspec import Struct

MAX_LIKENESSES = 16
"""Rows that a row may refer through."""
_SNAPSHOT = re.compile(r"-(latest|\d{8}|\d{4}-\d{2}-\d{2}|\d{4})$")
_VERSION = re.compile(r"\d{1,2}(\.\d{1,2})?")
_SERIES = re.compile(r"o\d{1,2}")
_FINE_TUNED = re.compile(r"ft:([^:]+).*")
_ON_BEDROCK = re.compile(r"(?:[a-z-]+\.)?anthropic\.(.+?)(-v\d+(:\d+)?)?$")

Family = tuple[str, ...]
"""The words of a model's name, without its version: `("claude", "opus")`, `("gpt", "mini")`."""
Version = tuple[int, ...]


class Row(Struct, frozen=True, kw_only=True):
    """A row of the table, with what it takes from other rows."""

    name: str
    vendor: str
    traits: Mapping[str, Any]
    """By the fields of `ModelTraits`. A field that is missing has its default."""


class _Document(Struct, forbid_unknown_fields=True):
    vendors: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]


class ModelTable:
    """Rows by name and by family."""

    def __init__(self, document: bytes) -> None:
        read = msgspec.toml.decode(document, type=_Document)
        self.vendors = read.vendors
        self.rows: dict[str, Row] = {}
        self._by_name: dict[str, Row] = {}
        self._prefixes: list[tuple[str, Row]] = []
        """From aliases that end in `*`, the longest first."""
        self._families: dict[Family, list[tuple[Version, Row]]] = {}
        for name in read.models:
            row = self.rows[name] = _row(name, read)
            for alias in (name, *read.models[name].get("aliases", ())):
                self._add(_spelled(alias), row)
        self._prefixes.sort(key=_length, reverse=True)

    def _add(self, alias: str, row: Row) -> None:
        if alias.endswith("*"):
            self._prefixes.append((alias[:-1], row))
            return
        self._by_name[alias] = row
        family, version = family_of(alias)
        if version:
            self._families.setdefault(family, []).append((version, row))

    def find(self, model: str) -> tuple[Row, bool] | None:
        """The row that a model's name means, and whether it names the model itself; None if no row fits.

        A name that no row has means the newest row of its family that is not newer, else the oldest; a name of no
        family, the newest of all families that begin alike.
        """
        name = base_name(model)
        for spelled in (name, _SNAPSHOT.sub("", name)):
            row = self._by_name.get(spelled)
            if row is not None:
                return row, True
        for prefix, row in self._prefixes:
            if name.startswith(prefix):
                return row, True
        family, version = family_of(_SNAPSHOT.sub("", name))
        known = self._families.get(family)
        if known is None and version:
            known = [entry for other, rows in self._families.items() if other[:1] == family[:1] for entry in rows]
        if not known:
            return None
        older = [entry for entry in known if entry[0] <= version] if version else known
        newest = max(older or known, key=_version) if older else min(known, key=_version)
        return newest[1], False


def built_in_table() -> ModelTable:
    """The table that the gateway comes with."""
    return ModelTable((files("domain") / "model_table.toml").read_bytes())


def base_name(model: str) -> str:
    """A model's name without the vendor, the region, the fine-tuning or the variant that other sellers put around it.

    `us.anthropic.claude-sonnet-4-5-20250929-v1:0`, `anthropic/claude-sonnet-4.5:beta` and
    `claude-sonnet-4-5@20250929` are all one model; `ft:gpt-4o:acme::id` is gpt-4o.
    """
    name = model.strip().lower()
    tuned = _FINE_TUNED.fullmatch(name)
    if tuned:
        name = tuned[1]
    name = name.rpartition("/")[2]
    on_bedrock = _ON_BEDROCK.fullmatch(name)
    if on_bedrock:
        name = on_bedrock[1]
    return _spelled(name.partition(":")[0].replace("@", "-"))


def family_of(name: str) -> tuple[Family, Version]:
    """The words of a name, and the numbers of its version; no numbers if it has none."""
    words, version = [], []
    for token in name.split("-"):
        if _VERSION.fullmatch(token):
            version += [int(number) for number in token.split(".")]
        elif _SERIES.fullmatch(token):
            words.append("o")
            version.append(int(token[1:]))
        else:
            words.append(token)
    return tuple(words), tuple(version)


def _version(entry: tuple[Version, Row]) -> Version:
    return entry[0]


def _length(prefix: tuple[str, Row]) -> int:
    return len(prefix[0])


def _spelled(name: str) -> str:
    """Anthropic's names as Anthropic writes them: others write `claude-3.5-sonnet`."""
    return name.replace(".", "-") if name.startswith("claude") else name


def _row(name: str, document: _Document) -> Row:
    chain = list(_likenesses(name, document))
    vendor = chain[-1]["vendor"]
    traits: dict[str, Any] = {}
    for fields in (document.vendors[vendor], *reversed(chain)):
        traits.update(fields)
    return Row(
        name=name,
        vendor=vendor,
        traits={field: value for field, value in traits.items() if field not in {"like", "vendor", "aliases"}},
    )


def _likenesses(name: str, document: _Document) -> Iterator[dict[str, Any]]:
    """The rows from `name` to the one that is like no other."""
    for _ in range(MAX_LIKENESSES):
        fields = document.models[name]
        yield fields
        if "like" not in fields:
            return
        name = fields["like"]
    raise ValueError(f"{name} is like too many rows")
