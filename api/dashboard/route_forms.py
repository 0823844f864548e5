"""A route as the fields of a form, and back. Each target is a row: `model-1`, `weight-1`, … Rows without a model are
left out, so a form has more rows than targets.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, get_args

from msgspec import Struct

from api.dashboard.field_words import FIELDS, in_form_words
from api.native.routes import NewRouteBody, settings_of
from api.requests import convert
from domain.errors import InvalidRequest
from domain.json_numbers import in_full
from domain.routes import DEFAULT_ATTEMPTS, DEFAULT_CAUSES, MAX_GROUPS, MAX_TARGETS, FailoverCause, RouteSettings

CAUSES: tuple[FailoverCause, ...] = get_args(FailoverCause)
MIN_ROWS = 2
EMPTY_ROWS = 1
"""After the targets that there are."""
MORE_ROWS = 4
MORE_FIELD = "more"
"""Of the button that asks for more rows."""
NEW_ROUTE: Mapping[str, str] = {
    "attempts": str(DEFAULT_ATTEMPTS),
    **{f"on-{cause}": "true" for cause in DEFAULT_CAUSES},
}
"""The fields of a form for a new route."""
_FIELDS = ("model", "weight", "timeoutS", "firstByteTimeoutS", "idleTimeoutS", "credential")
_DEFAULT_WEIGHT = "1"
_NAME = "1 to 128 letters, digits and . _ : -, of which the first is a letter or a digit; a slash is for models"
_TURN = re.compile(r"[1-9][0-9]?", re.ASCII)
_PLACE = re.compile(r"groups\[(?P<group>\d+)\]\[(?P<position>\d+)\](?:\.(?P<leaf>\w+))?")


class Row(Struct, frozen=True, kw_only=True):
    """A row of the form, and the turn in which its group is tried."""

    number: int
    turn: int


class RouteForm(Struct, frozen=True, kw_only=True):
    """A form that was sent: a name, the settings, and the row of each target by its group and position."""

    name: str
    settings: RouteSettings
    rows: tuple[tuple[int, ...], ...]


def values_of(settings: RouteSettings) -> dict[str, str]:
    """The fields of a route's form; what is not set is empty."""
    values = {"attempts": str(settings.attempts)} | {f"on-{cause}": "true" for cause in settings.fail_over_on}
    targets = [(turn, target) for turn, group in enumerate(settings.groups, start=1) for target in group]
    for row, (turn, target) in enumerate(targets, start=1):
        timeouts = (target.timeout_s, target.first_byte_timeout_s, target.idle_timeout_s)
        texts = ("" if timeout is None else in_full(Decimal(repr(timeout))) for timeout in timeouts)
        given = (target.model, str(target.weight), *texts, target.credential or "")
        values |= {f"{field}-{row}": text for field, text in zip(_FIELDS, given, strict=True)}
        values[f"group-{row}"] = str(turn)
    return values


def rows_of(values: Mapping[str, str]) -> list[Row]:
    """The rows that a form has: those with a target, and some empty ones, which come after all of them."""
    sent = list(_sent_rows(values))
    used = [row for row in sent if values.get(f"model-{row}", "").strip()]
    more = MORE_ROWS if MORE_FIELD in values else 0
    count = max(MIN_ROWS, max(used, default=0) + EMPTY_ROWS, max(sent, default=0) + more)
    rows: list[Row] = []
    turn = 0
    for number in range(1, min(count, MAX_TARGETS) + 1):
        given = values.get(f"group-{number}", "")
        turn = int(given) if _TURN.fullmatch(given) else min(turn + 1, MAX_GROUPS)
        rows.append(Row(number=number, turn=turn))
    return rows


def route_of(values: Mapping[str, str], name: str, shown: Mapping[str, str] = {}) -> RouteForm:
    """A form as a route. `shown`: the fields as the form had them; a target whose model alone was emptied is removed.

    Raises:
        InvalidRequest: names the field of the form and what is wrong with it.

    """
    groups: dict[int, list[tuple[int, dict[str, str]]]] = {}
    for row in _sent_rows(values):
        target = _target_of(values, row, shown)
        if target:
            groups.setdefault(_group_of(values, row), []).append((row, target))
    in_turn = [groups[turn] for turn in sorted(groups)]
    rows = tuple(tuple(row for row, _ in group) for group in in_turn)
    body: dict[str, Any] = {
        "name": name,
        "groups": [[target for _, target in group] for group in in_turn],
        "failOverOn": [cause for cause in CAUSES if values.get(f"on-{cause}")],
    }
    if values.get("attempts", "").strip():
        body["attempts"] = values["attempts"].strip()
    try:
        made = convert(body, NewRouteBody)
    except InvalidRequest as error:
        raise _in_row_words(error, rows) from None
    return RouteForm(name=name, settings=settings_of(made), rows=rows)


def in_rows(error: InvalidRequest, form: RouteForm) -> InvalidRequest:
    """An error of the API that names a target, with the row of the form instead."""
    place = _PLACE.fullmatch(error.field or "")
    if place is None:
        return error
    field, label = _field_and_label(place, form.rows)
    return InvalidRequest(error.message.replace(f"`{error.field}`", label), field=field)


def _sent_rows(values: Mapping[str, str]) -> Iterator[int]:
    return (row for row in range(1, MAX_TARGETS + 1) if f"model-{row}" in values)


def _target_of(values: Mapping[str, str], row: int, shown: Mapping[str, str]) -> dict[str, str]:
    """The target of a row; empty if the row is.

    Raises:
        InvalidRequest: it has something else but no model.

    """
    given = _given(values, row)
    if "model" in given:
        return given
    removed = {field: text for field, text in _given(shown, row).items() if field != "model"}
    if given in ({}, {"weight": _DEFAULT_WEIGHT}, removed):
        return {}
    message = f"“{FIELDS['model'].label}” of target {row} is missing: {FIELDS['model'].allowed}"
    raise InvalidRequest(message, field=f"model-{row}")


def _given(values: Mapping[str, str], row: int) -> dict[str, str]:
    return {field: text for field in _FIELDS if (text := values.get(f"{field}-{row}", "").strip())}


def _group_of(values: Mapping[str, str], row: int) -> int:
    text = values.get(f"group-{row}", "1")
    if not _TURN.fullmatch(text):
        raise InvalidRequest(f"“Tried” of target {row} must be {FIELDS['group'].allowed}", field=f"group-{row}")
    return int(text)


def _in_row_words(error: InvalidRequest, rows: tuple[tuple[int, ...], ...]) -> InvalidRequest:
    """An error of a type or a bound, in the form's words."""
    if error.field == "name":
        return InvalidRequest(f"“{FIELDS['name'].label}” must be {_NAME}", field="name")
    place = _PLACE.fullmatch(error.field or "")
    if place is None:
        return in_form_words(error)
    field, label = _field_and_label(place, rows)
    return InvalidRequest(f"{label} must be {FIELDS[place['leaf'] or 'model'].allowed}", field=field)


def _field_and_label(place: "re.Match[str]", rows: tuple[tuple[int, ...], ...]) -> tuple[str, str]:
    """The field of the form that a path of the API means, and how the page calls it."""
    row, leaf = rows[int(place["group"])][int(place["position"])], place["leaf"] or "model"
    return f"{leaf}-{row}", f"“{FIELDS[leaf].label}” of target {row}"
