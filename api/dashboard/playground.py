"""The playground's calls: the viewer's words to a model, by the way of every native chat call, charged to a key.

The handler of the call gets a request that the form has become: its body is the call's, its caller is the key. So no
limit, budget, log or cache is passed by.
"""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from litestar import Response
from msgspec import Meta, Struct

from api.authentication import Caller
from api.dashboard.viewer import Viewer
from api.native.completions import answer_chat
from api.request_facts import FACTS_SCOPE, facts_of
from api.request_lifetime import BYTES_SCOPE, REQUEST_ID_SCOPE
from api.requests import CountedRequest, HttpRequest
from domain.errors import BudgetExceeded, GatewayError, ProviderError
from domain.names import Name

CALL_PATH = "/api/v1/completions/chat"
CLIENT = b"ai-gateway-playground"
"""What reports call the program that made these calls."""
MAX_PROMPT_CHARS = 100_000
MAX_ANSWER_TOKENS = 32_000
KEY_WINDOWS = frozenset({"daily", "monthly"})
"""Names of windows that are a key's. The others are its project's."""

Prompt = Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT_CHARS)]
AnswerTokens = Annotated[int, Meta(ge=1, le=MAX_ANSWER_TOKENS)]


class Trial(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What the form of the playground sends."""

    model: Name
    prompt: Prompt
    key_id: str | None = None
    """The key that the operator chose."""
    max_tokens: AnswerTokens | None = None
    cache: bool = False


class TrialAnswer(Struct, frozen=True, kw_only=True):
    """An answer as the page shows it."""

    text: str
    model: str
    provider: str
    cost_usd: Decimal | None
    """None: the model has no known price."""
    is_cached: bool
    latency_ms: int
    prompt_tokens: int
    completion_tokens: int
    request_id: str


class Link(Struct, frozen=True):
    """A link from an answer or an error to another page."""

    address: str
    text: str


def links_of(error: GatewayError, viewer: Viewer, caller: Caller | None, request_id: str) -> list[Link]:
    """Return the links of an error: to the budget that refused the trial, and to its request if the log has it."""
    if caller is None:
        return []
    found = []
    window = (error.details or {}).get("window") if isinstance(error, BudgetExceeded) else None
    if isinstance(window, str):
        is_keys = window in KEY_WINDOWS
        of_project = f"/projects/{caller.project_id}" if viewer.role != "member" else "/budgets"
        found.append(Link(f"/keys/{caller.key_id}" if is_keys else of_project, f"The {window} budget"))
    if window is not None or isinstance(error, ProviderError):
        found.append(Link(f"/requests/{request_id}", "The request"))
    return found


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    message: _Message


class _Usage(Struct, rename="camel"):
    prompt_tokens: int
    completion_tokens: int


class _Data(Struct, rename="camel"):
    model: str
    provider: str
    choices: list[_Choice]
    usage: _Usage
    cost: Decimal | None
    cached: bool
    latency_ms: int
    request_id: str


class _Envelope(Struct):
    data: _Data


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Envelope).decode


async def stream_trial(request: HttpRequest, caller: Caller, trial: Trial) -> Response[bytes]:
    """Have a model answer, as Server-Sent Events of the native API. Raises as `InferenceService.infer`."""
    return await _call(request, caller, trial, stream=True)


async def answer_trial(request: HttpRequest, caller: Caller, trial: Trial) -> TrialAnswer:
    """Have a model answer in one piece. Raises as `InferenceService.infer`."""
    answer = _decode((await _call(request, caller, trial, stream=False)).content).data
    return TrialAnswer(
        text="".join(choice.message.content or "" for choice in answer.choices),
        model=answer.model,
        provider=answer.provider,
        cost_usd=answer.cost,
        is_cached=answer.cached,
        latency_ms=answer.latency_ms,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        request_id=answer.request_id,
    )


async def _call(request: HttpRequest, caller: Caller, trial: Trial, *, stream: bool) -> Response[bytes]:
    wanted: dict[str, Any] = {
        "model": trial.model,
        "messages": [{"role": "user", "content": trial.prompt}],
        "cache": trial.cache,
        "stream": stream,
    }
    if trial.max_tokens is not None:
        wanted["maxTokens"] = trial.max_tokens
    body = _encode(wanted)
    headers = [(b"content-type", b"application/json"), (b"user-agent", CLIENT)]
    facts = facts_of(request.scope)  # the page's own: its access line and its figures are those of the call
    facts.key_id = caller.key_id
    scope: Any = {
        "type": "http",
        "asgi": request.scope["asgi"],
        "http_version": request.scope["http_version"],
        "method": "POST",
        "scheme": request.scope["scheme"],
        "path": CALL_PATH,
        "raw_path": CALL_PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
        "state": {},
        "user": caller,
        "litestar_app": request.app,
        REQUEST_ID_SCOPE: request.scope[REQUEST_ID_SCOPE],  # type: ignore[literal-required]
        FACTS_SCOPE: facts,
        BYTES_SCOPE: request.scope[BYTES_SCOPE],  # type: ignore[literal-required]
    }
    return await answer_chat(CountedRequest.of_job(scope, request.receive, body))
