"""The table of models: its rows, and which of them a name means. What a field is for stands in `models.py`."""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import msgspec
from msgspec import Struct

MAX_LIKENESSES = 16
"""Rows that a row may refer through."""
_ABOUT_THE_ROW = frozenset({"like", "vendor", "aliases", "sources"})
_SNAPSHOT = re.compile(r"-(latest|\d{8}|\d{4}-\d{2}-\d{2}|\d{4})$")
_VERSION = re.compile(r"\d{1,2}(\.\d{1,2})?")
_SERIES = re.compile(r"o\d{1,2}")
_FINE_TUNED = re.compile(r"ft:([^:]+).*")
_ON_BEDROCK = re.compile(r"(?:[a-z-]+\.)?anthropic\.(.+?)(-v\d+(:\d+)?)?")

Family = tuple[str, ...]
"""The words of a model's name, without its version: `("claude", "opus")`, `("gpt", "mini")`."""
Version = tuple[int, ...]


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a fact was read."""

    url: str
    seen: str
    """The month, or the version of a package and the place in it."""


class Row(Struct, frozen=True, kw_only=True):
    """A row of the table, with what it takes from other rows."""

    name: str
    vendor: str
    """A key of the table's vendors; empty: the row is the operator's."""
    traits: Mapping[str, Any]
    """By the fields of `ModelTraits`. A field that is missing has its default."""
    aliases: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


class Found(Struct, frozen=True):
    """The row of a model."""

    row: Row
    is_listed: bool
    """The row is the model's own, not that of its family."""


class _Document(Struct, forbid_unknown_fields=True):
    models: dict[str, dict[str, Any]]
    sources: dict[str, Source] = {}
    vendors: dict[str, dict[str, Any]] = {}
    unknown: dict[str, dict[str, Any]] = {}


class _Operators(Struct, forbid_unknown_fields=True):
    models: dict[str, dict[str, Any]]


class ModelTable:
    """Rows by name and by family."""

    def __init__(self, document: bytes) -> None:
        read = msgspec.toml.decode(document, type=_Document)
        self.sources = read.sources
        self.vendors = read.vendors
        """What all models of a vendor have in common."""
        self.unknown = read.unknown
        """Traits of models without a row, by the kind of their provider."""
        self.rows: dict[str, Row] = {}
        self._by_name: dict[str, Found] = {}
        self._prefixes: list[tuple[str, Row]] = []
        """From aliases that end in `*`, the longest first."""
        self._versions: list[tuple[Family, Version, Row]] = []
        """Of chat models, in the table's order."""
        for name in read.models:
            row = _row(name, read)
            self.rows[name] = row
            for alias in (name, *row.aliases):
                self._add(alias, row)
        self._prefixes.sort(key=lambda prefix: len(prefix[0]), reverse=True)

    def find(self, model: str) -> Found | None:
        """The row that a model's name means; None if no row fits.

        A name that no row has means the row of its family that is the newest of those not newer than the name, else
        the family's oldest. A name of no family means the model that it is a variant of (`gpt-5.4-quick`), else the
        newest row of all families that begin alike.
        """
        name = base_name(model)
        without_date = _SNAPSHOT.sub("", name)
        found = self._by_name.get(name) or self._by_name.get(without_date)
        if found is not None:
            return found
        for prefix, row in self._prefixes:
            if name.startswith(prefix):
                return Found(row, is_listed=False)
        relative = self._relative(*family_of(without_date))
        return Found(relative, is_listed=False) if relative is not None else None

    def override(self, document: bytes) -> list[Row]:
        """Give models other traits: those that a document of the same form says, beside those that they have.

        A row may be `like` any model that the table has; without that, it begins with what the table has for its name.
        The rows that are like it do not change. Returns the new rows.

        Raises:
            ValueError: the document is not one, or a row is like a model that the table does not have.

        """
        try:
            given = msgspec.toml.decode(document, type=_Operators).models
            return [self._override(name, fields) for name, fields in given.items()]
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error

    def _override(self, name: str, fields: dict[str, Any]) -> Row:
        like = fields.get("like")
        found = self.find(name if like is None else str(like))
        if like is not None and (found is None or not found.is_listed):
            raise ValueError(f"{name} is like {like}, which is no model of the table")
        traits = found.row.traits if found is not None else {}
        aliases = msgspec.convert(fields.get("aliases", ()), tuple[str, ...])
        row = Row(name=name, traits=_cleared({**traits, **fields}), aliases=aliases, vendor="")
        is_listed = found is None or found.is_listed or "max_output" in fields
        for alias in (name, *aliases):
            self._by_name[base_name(alias)] = Found(row, is_listed=is_listed)
        return row

    def _add(self, alias: str, row: Row) -> None:
        spelled = _spelled(alias)
        if spelled.endswith("*"):
            self._prefixes.append((spelled[:-1], row))
            return
        self._by_name[spelled] = Found(row, is_listed=True)
        family, version = family_of(spelled)
        if version and row.traits.get("serves", "chat") == "chat":
            self._versions.append((family, version, row))

    def _relative(self, family: Family, version: Version) -> Row | None:
        if not version or not family:
            return None
        known = [(one, row) for other, one, row in self._versions if other == family]
        elders = [entry for entry in known if entry[0] <= version]
        if known and not elders:
            return min(known, key=_version_of)[1]
        for words in range(len(family) - 1, 0, -1):  # an unknown variant of a known version
            elders = elders or [
                (one, row)
                for other, one, row in self._versions
                if other == family[:words] and one[0] == version[0] and one <= version
            ]
        elders = elders or [(one, row) for other, one, row in self._versions if other[0] == family[0]]
        return max(elders, key=_version_of)[1] if elders else None


def built_in_table() -> ModelTable:
    """The table that the gateway comes with."""
    return ModelTable((files("domain") / "model_table.toml").read_bytes())


def base_name(model: str) -> str:
    """A model's name without the vendor, the region, the fine-tuning or the variant that sellers put around it.

    `us.anthropic.claude-sonnet-4-5-20250929-v1:0`, `anthropic/claude-sonnet-4.5:beta` and
    `claude-sonnet-4-5@20250929` are all one model; `ft:gpt-4o:acme::id` is gpt-4o.
    """
    name = model.strip().lower()
    fine_tuned = _FINE_TUNED.fullmatch(name)
    if fine_tuned is not None:
        name = fine_tuned[1]
    name = name.rpartition("/")[2]
    on_bedrock = _ON_BEDROCK.fullmatch(name)
    if on_bedrock is not None:
        name = on_bedrock[1]
    return _spelled(name.partition(":")[0].replace("@", "-").rstrip("-"))


def family_of(name: str) -> tuple[Family, Version]:
    """The words of a name, and the numbers of its version; no numbers if it has none."""
    words: list[str] = []
    version: list[int] = []
    for token in name.split("-"):
        if _VERSION.fullmatch(token):
            version += [int(number) for number in token.split(".")]
        elif _SERIES.fullmatch(token):
            words.append("o")
            version.append(int(token[1:]))
        else:
            words.append(token)
    return tuple(words), tuple(version)


def _version_of(entry: tuple[Version, Row]) -> Version:
    return entry[0]


def _spelled(name: str) -> str:
    """Anthropic's names as Anthropic writes them; others write `claude-3.5-sonnet`."""
    return name.replace(".", "-") if name.startswith("claude") else name


def _row(name: str, document: _Document) -> Row:
    chain = list(_likenesses(name, document))
    traits: dict[str, Any] = {}
    for fields in (document.vendors[chain[-1]["vendor"]], *reversed(chain)):
        traits |= fields
    own = document.models[name]
    return Row(
        name=name,
        vendor=chain[-1]["vendor"],
        traits=_cleared(traits),
        aliases=tuple(own.get("aliases", ())),
        sources=tuple(own.get("sources", ())),
    )


def _cleared(traits: Mapping[str, Any]) -> dict[str, Any]:
    """The traits alone. An empty text takes back what a row has from another."""
    return {field: value for field, value in traits.items() if field not in _ABOUT_THE_ROW and value != ""}


def _likenesses(name: str, document: _Document) -> Iterator[dict[str, Any]]:
    """The rows from `name` to the one that is like no other."""
    for _ in range(MAX_LIKENESSES):
        fields = document.models[name]
        yield fields
        if "like" not in fields:
            return
        name = fields["like"]
    raise ValueError(f"{name} is like too many rows")
