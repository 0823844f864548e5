"""A key's settings as the fields of a form, and back. The fields have the names that the API gives them."""

from msgspec import UNSET
from msgspec.structs import replace

from api.dashboard.figures import plain_dollars
from api.dashboard.forms import FieldKinds
from api.native.keys import KeyChangeBody
from domain.events import KeySettings

_NULLABLE = ("dailyBudget", "monthlyBudget", "rateLimit", "tokenLimit", "concurrencyLimit", "models", "expiresAt")
KEY_FIELDS = FieldKinds(lists=("models",), moments=("expiresAt",), nullable=_NULLABLE)
NEW_KEY_FIELDS = FieldKinds(lists=("models",), moments=("expiresAt",), nullable=_NULLABLE, besides=("project",))
_LOCAL_TIME = "%Y-%m-%dT%H:%M"
"""As `<input type="datetime-local">` has it."""


def values_of(settings: KeySettings) -> dict[str, str]:
    """The fields of the form; no limit is an empty one."""
    limits = (
        ("rateLimit", settings.rate_limit),
        ("tokenLimit", settings.token_limit),
        ("concurrencyLimit", settings.concurrency_limit),
    )
    return {
        "name": settings.name,
        "role": settings.role,
        "dailyBudget": plain_dollars(settings.daily_budget_nano_usd),
        "monthlyBudget": plain_dollars(settings.monthly_budget_nano_usd),
        **{name: "" if limit is None else str(limit) for name, limit in limits},
        "models": "\n".join(settings.models or ()),
        "expiresAt": settings.expires_at.strftime(_LOCAL_TIME) if settings.expires_at else "",
        "outputCap": settings.output_cap,
        "budgetWaitMs": str(settings.budget_wait_ms),
        "translation": settings.translation,
        "idempotency": settings.idempotency,
    }


def change_of(body: KeyChangeBody, settings: KeySettings) -> KeyChangeBody:
    """The change that a form asks for. A form sends every field, and no `expiresAt` may lie in the past: one that stays
    as it is, to the minute, is left out.
    """
    now, wanted = settings.expires_at, body.expires_at
    if now is not None and wanted and wanted.strftime(_LOCAL_TIME) == now.strftime(_LOCAL_TIME):
        return replace(body, expires_at=UNSET)
    return body
