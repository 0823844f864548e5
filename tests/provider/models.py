"""The models that the test provider lists, in both vendors' shapes."""

from typing import Any

from aiohttp import web

from tests.provider.bill import PRICES_PER_MILLION
from tests.provider.openai_wire import CREATED_S

_CREATED_AT = "2024-03-07T00:00:00Z"
_DEFAULT_PAGE = 20


def is_anthropic(request: web.Request) -> bool:
    """Return whether the caller uses Anthropic's API."""
    return "anthropic-version" in request.headers


def _names(*, of_anthropic: bool) -> list[str]:
    return [name for name in PRICES_PER_MILLION if name.startswith("claude-") == of_anthropic]


def listed(request: web.Request) -> dict[str, Any]:
    """Return the vendor's list of models. Anthropic's has pages."""
    if not is_anthropic(request):
        return {"object": "list", "data": [_openai(name) for name in _names(of_anthropic=False)]}
    names = _names(of_anthropic=True)
    query = request.query
    start = names.index(query["after_id"]) + 1 if "after_id" in query else 0
    end = names.index(query["before_id"]) if "before_id" in query else len(names)
    limit = int(query.get("limit", _DEFAULT_PAGE))
    page = names[max(start, end - limit) : end] if "before_id" in query else names[start : start + limit]
    has_more = page[:1] != names[:1] if "before_id" in query else page[-1:] != names[-1:]
    return {
        "data": [_anthropic(name) for name in page],
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
        "has_more": bool(page) and has_more,
    }


def one(request: web.Request) -> dict[str, Any] | None:
    """Return a model as its vendor describes it; None if that vendor has no model of this name."""
    name = request.match_info["name"]
    if name not in _names(of_anthropic=is_anthropic(request)):
        return None
    return _anthropic(name) if is_anthropic(request) else _openai(name)


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED_S, "owned_by": "system"}


def _anthropic(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": _CREATED_AT,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "max_input_tokens": 200_000,
        "max_tokens": 8_192,
    }
