"""What a reader of reports may see, and of which days it asks. For the native API and the dashboard alike."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

from api.authentication import Caller
from domain.budget import day_of
from domain.errors import Forbidden, InvalidRequest
from domain.money import NanoUsd, from_usd
from projections.reports.scope import Window, last_days
from projections.scope import Scope

MAX_DAYS = 3_660
DEFAULT_DAYS = 30
DOLLARS_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
METADATA_PATTERN = r"^[^=\x00]+=[^\x00]*$"
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DOLLARS = re.compile(DOLLARS_PATTERN, re.ASCII)


def visible_scope(caller: Caller | None, project_id: str | None, key_id: str | None) -> Scope:
    """Return what a caller sees of what it asks for; None is the operator, who sees every project.

    Raises:
        Forbidden: it asks for another project's, or, as a member, for another key's.

    """
    if caller is None:
        return Scope(project_id=project_id, key_id=key_id)
    if project_id not in (None, caller.project_id):
        raise Forbidden("`projectId`: a key sees its own project only")
    return Scope(project_id=caller.project_id, key_id=visible_key(caller, key_id))


def visible_key(caller: Caller, key_id: str | None) -> str | None:
    """The key whose figures the caller sees; None for the whole project.

    Raises:
        Forbidden: a member asks for another key's.

    """
    if caller.settings.role == "admin":
        return key_id
    if key_id not in (None, caller.key_id):
        raise Forbidden("`keyId`: a key with the role member sees itself only")
    return caller.key_id


def parse_window(days: int | None, first: str | None, last: str | None) -> Window:
    """Return the days from `first` to `last` (ISO dates), or so many that end today.

    Raises:
        InvalidRequest: names the field.

    """
    today = day_of(datetime.now(UTC))
    if first is None and last is None:
        if days is not None and days > MAX_DAYS:
            raise InvalidRequest(f"`days` is {days}: at most {MAX_DAYS} can be shown", field="days")
        return last_days(days if days is not None else DEFAULT_DAYS, today)
    if days is not None:
        raise InvalidRequest("`days` stands beside `from` and `to`: it is either or", field="days")
    window = Window(
        first=_day(first, "from") if first is not None else today, last=_day(last, "to") if last is not None else today
    )
    if window.first > window.last:
        raise InvalidRequest(f"`from` is {window.first}: it must not be after `to`, {window.last}", field="from")
    if window.days > MAX_DAYS:
        raise InvalidRequest(f"`from`: at most {MAX_DAYS} days can be shown", field="from")
    return window


def parse_dollars(text: str | None, field: str) -> NanoUsd | None:
    """Read an amount of US dollars.

    Raises:
        InvalidRequest: it is none.

    """
    if text is None:
        return None
    if not _DOLLARS.fullmatch(text):
        raise InvalidRequest(f"`{field}` is {text!r}: it must be US dollars, such as 0.05", field=field)
    return from_usd(Decimal(text))


def parse_metadata(text: str | None) -> tuple[str, str] | None:
    """Read `NAME=VALUE`.

    Raises:
        InvalidRequest: it is none.

    """
    if text is None:
        return None
    name, equals, value = text.partition("=")
    if not name or not equals or "\x00" in text:
        raise InvalidRequest(f"`metadata` is {text!r}: it must be NAME=VALUE, such as team=search", field="metadata")
    return name, value


def _day(text: str, field: str) -> date:
    wrong = InvalidRequest(f"`{field}` is {text!r}: it must be a date such as 2026-01-31", field=field)
    if not _DAY.fullmatch(text):
        raise wrong
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise wrong from None
    if not date(1970, 1, 1) <= day <= date(9000, 1, 1):
        raise InvalidRequest(f"`{field}` is {text!r}: it must lie after 1970", field=field)
    return day
