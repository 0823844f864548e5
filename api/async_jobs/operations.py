"""The calls that a job may make. A job's request goes through the very handler of its synchronous call.

The handler gets a request that came over no connection: its body is the job's, its caller is the job's key, and what
has it answered is a stand-in for the process's `InferenceService` that either checks it or marks it as a job's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import msgspec
from litestar import Response
from litestar.datastructures import State
from litestar.types import HTTPDisconnectEvent, HTTPScope, Receive
from msgspec import Struct

from api.authentication import Caller
from api.client_disconnect import ClientDisconnect
from api.inference_response import InferenceResponse, StreamedResponse
from api.native import completions
from api.request_context import InferenceRequest
from api.request_lifetime import BYTES_SCOPE, REQUEST_ID_SCOPE
from api.requests import CountedRequest, HttpRequest
from api.services import Inference, Services
from api.vendors import anthropic, openai, responses
from api.vendors.surface import handle
from domain.call_origin import HEADERS
from domain.errors import InvalidRequest
from infra.byte_budget import BytesInHand

OperationName = Literal["chat", "embeddings", "/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"]
"""The native calls, and the vendors' by their paths."""

_OWN_HEADERS = b"x-gateway-"
_KEPT_HEADERS = frozenset(
    (b"anthropic-version", b"anthropic-beta", *(name for names in HEADERS.values() for name in names))
)
"""The headers that are kept of a request: those that change its call, and those of its origin. No credentials."""


class JobContent(Struct, frozen=True, kw_only=True):
    """The content of a job, sealed as a blob until it is run."""

    operation: OperationName
    headers: list[tuple[bytes, bytes]]
    body: bytes
    """JSON."""


encode_content = msgspec.msgpack.Encoder().encode
decode_content = msgspec.msgpack.Decoder(JobContent).decode


@dataclass(frozen=True, slots=True)
class _Operation:
    """A synchronous call: its path, its handler, and what of its answer is the result."""

    path: str
    handle: Callable[[HttpRequest], Awaitable[Response[bytes]]]
    result: Callable[[bytes], bytes]


class _Envelope(Struct):
    data: msgspec.Raw


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def _data(answer: bytes) -> bytes:
    """A native answer without its envelope."""
    return bytes(_decode_envelope(answer).data)


_OPERATIONS: Mapping[OperationName, _Operation] = {
    "chat": _Operation("/api/v1/completions/chat", completions.answer_chat, _data),
    "embeddings": _Operation("/api/v1/completions/embeddings", completions.answer_embeddings, _data),
    "/v1/chat/completions": _Operation("/v1/chat/completions", partial(handle, endpoint=openai.CHAT), bytes),
    "/v1/embeddings": _Operation("/v1/embeddings", partial(handle, endpoint=openai.EMBEDDINGS), bytes),
    "/v1/responses": _Operation("/v1/responses", partial(handle, endpoint=responses.RESPONSES), bytes),
    "/v1/messages": _Operation("/v1/messages", partial(handle, endpoint=anthropic.MESSAGES), bytes),
}


class JobReceive:
    """The ASGI `receive` of a job's handler: if the job is cancelled, it says that the client has disconnected."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def __call__(self) -> HTTPDisconnectEvent:
        """Return the next message of the connection."""
        await self.cancelled.wait()
        return {"type": "http.disconnect"}


@dataclass(frozen=True, slots=True)
class _App:
    state: State


class _Checked(Exception):
    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model


class _Checker:
    """Plans a request as a synchronous one would be, and goes no further."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def infer(
        self,
        caller: Caller,
        inference_request: InferenceRequest,
        receive: Receive,  # noqa: ARG002 - as `Inference`
    ) -> InferenceResponse | StreamedResponse:
        """See `Inference`. Raises _Checked, or why the request cannot be made."""
        if inference_request.stream is not None:
            raise InvalidRequest("`stream`: a job's answer comes in one piece", field="stream")
        await self._services.large_requests.run(
            caller.project_id,
            inference_request.planned_bytes,
            self._services.planner.plan,
            caller,
            inference_request,
            ClientDisconnect(),
            is_counted=False,
        )
        raise _Checked(inference_request.body.model)


async def check(services: Services, caller: Caller, content: JobContent, request_id: str) -> str:
    """Check a job's request as far as that needs no provider and no budget. Return the model that it names.

    Raises:
        GatewayError: what a synchronous caller would get.

    """
    try:
        await perform(services, _Checker(services), caller, content, request_id, JobReceive())
    except _Checked as checked:
        return checked.model
    raise AssertionError("a checker answers nothing")


async def perform(
    services: Services,
    inference: Inference,
    caller: Caller,
    content: JobContent,
    request_id: str,
    receive: JobReceive,
) -> bytes:
    """Have the handler of a job's operation answer its request by way of `inference`. Return the result's JSON.

    Raises:
        GatewayError: what a synchronous caller would get.

    """
    operation = _OPERATIONS[content.operation]
    scope = _scope(replace(services, inference=inference), operation.path, content, caller, request_id)
    in_hand = BytesInHand(services.byte_budget, caller.project_id)
    try:
        in_hand.take(len(content.body))
        scope[BYTES_SCOPE] = in_hand  # type: ignore[literal-required]  # ours, as the id
        answer = await operation.handle(CountedRequest.of_job(scope, receive, content.body))
    finally:
        in_hand.close()
    return operation.result(answer.content)


def kept_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a call that its jobs' requests are made with."""
    return [(name, value) for name, value in headers if name in _KEPT_HEADERS or name.startswith(_OWN_HEADERS)]


def _scope(services: Services, path: str, content: JobContent, caller: Caller, request_id: str) -> HTTPScope:
    length = str(len(content.body)).encode()
    headers = [*content.headers, (b"content-type", b"application/json"), (b"content-length", length)]
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
        "state": {},
        "user": caller,
        "litestar_app": _App(State({"services": services})),
        REQUEST_ID_SCOPE: request_id,
    }
    typed: HTTPScope = scope
    return typed
