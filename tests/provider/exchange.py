"""One request and its response: refused, in one piece, streamed, or broken, as the prompt says."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote

from aiohttp import ClientConnectionResetError, web
from msgspec import UNSET, Struct
from msgspec.structs import replace

from tests.provider import bill
from tests.provider.counting import input_tokens
from tests.provider.future_fields import add_unknown_frames, add_unknown_member
from tests.provider.recorded import Recording, Recordings
from tests.provider.request_model import Answer, Frame, ModelRequest, plan
from tests.provider.steering import Steering, steering

MAX_STALL_S = 600.0
MAX_KEPT = 1_024
SPLIT_PAUSE_S = 0.002
"""The pause between two writes, so that they arrive separately."""
_FIRST_LEAD_BYTE = 0xC0

_dumps = partial(json.dumps, ensure_ascii=False)


class Wire(Struct, frozen=True, kw_only=True):
    """A call of a vendor's API: the functions that parse its request and write its response."""

    parse_request: Callable[[dict[str, Any]], ModelRequest]
    whole: Callable[[Answer], dict[str, Any]]
    frames: Callable[[Answer], Iterator[Frame]] | None = None
    stream_error: Callable[[Answer, int], bytes] | None = None
    """Returns the error inside a stream, after a number of frames."""
    refuse: Callable[[dict[str, Any]], str | None] | None = None
    """Returns why the vendor refuses a request; None if it does not."""
    names_events: bool = False
    """True if the events of its stream have types."""
    is_anthropic: bool = False
    is_charged: bool = True
    counts_output: bool = True
    kept: Callable[[Answer, str], dict[str, Any] | None] | None = None
    """Returns a response that is kept, while it is `in_progress` and once it is `completed` or `cancelled`; None: it is
    not there. Without it, none is kept.
    """
    keeps_by_default: bool = False


class Provider:
    """The state of the provider: its bill, the calls in flight, and the recordings."""

    def __init__(self) -> None:
        self.bill: list[dict[str, Any]] = []
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.seen: set[str] = set()
        self.recordings = Recordings()
        self.under_way: set[asyncio.Task[web.Response]] = set()
        self.kept: dict[str, Exchange] = {}
        """The streams and those in the background whose responses are kept, by the responses' ids."""


class Exchange:
    """One request, and the part of its response that has been sent."""

    def __init__(self, provider: Provider, wire: Wire, request: web.Request, recording: Recording) -> None:
        self._provider = provider
        self._wire = wire
        self._request = request
        self._recording = recording
        body = json.loads(recording.body)
        self.model_request = wire.parse_request(body)
        words = steering(f"{self.model_request.prompt}\n{self.model_request.user}", self.model_request.model)
        self._words = words = self._cut_if_first(words)
        planned = plan(self.model_request, words)
        self._deltas = planned.deltas
        counted = self._deltas if self.model_request.stream else words.chunks
        usage = bill.usage_of(self.model_request.prompt, words, counted)
        if words.count:
            usage = replace(usage, tokens_in=input_tokens(body, words.count))
        self._ruled_out = wire.refuse(body) if wire.refuse is not None else None
        self._usage = usage if wire.counts_output else replace(usage, tokens_out=0)
        reported = bill.reported(self._usage, words)
        self._answer = Answer(body=body, request=self.model_request, plan=planned, usage=reported)
        self._sent_frames = 0
        self._sent_deltas = 0
        self._last_write_s: float | None = None
        self._is_settled = False
        """True once the request is charged, or refused, which is free."""
        self._charged: tuple[bill.End, bill.Usage] | None = None
        is_kept = wire.kept is not None and body.get("store", wire.keeps_by_default)
        self._kept_as = unquote(words.id) or planned.digest[:24] if is_kept else None

    def _cut_if_first(self, words: Steering) -> Steering:
        """Return the words with the cut that only the first stream of a name has."""
        if words.cutonce is UNSET or not self.model_request.stream or words.cutonce in self._provider.seen:
            return words
        self._provider.seen.add(words.cutonce)
        return replace(words, cut=int(words.cutonce.partition("/")[0]))

    async def in_one_piece(self) -> web.Response:
        """Send the whole response, even if the client has disconnected."""
        self._begin()
        try:
            refusal = await self._delayed_refusal()
            if refusal is not None:
                return refusal
            self._charge("whole")
            if self._words.reset:
                self._break()
                return web.Response()
            if self._words.body is not None:
                return self._recording.whole(web.Response(text=self._words.body))
            body = _dumps(self._queued() or self._wire.whole(self._answer)).encode()
            body = add_unknown_member(body) if self._words.tomorrow else body
            answer = web.Response(body=body, content_type="application/json", headers=self._headers())
            return self._recording.whole(answer)
        finally:
            self._end()

    def _queued(self) -> dict[str, Any] | None:
        """Return what stands for a response in the background, which is done when it is asked for; None: it is none."""
        if self._kept_as is None or self._wire.kept is None or not self._answer.body.get("background"):
            return None
        self._keep(self._kept_as)
        return self._wire.kept(self._answer, "queued")

    def _keep(self, name: str) -> None:
        self._provider.kept[name] = self
        if len(self._provider.kept) > MAX_KEPT:
            del self._provider.kept[next(iter(self._provider.kept))]

    async def as_stream(self) -> web.StreamResponse:
        """Stream the response. If the client disconnects, only the part that was sent is charged."""
        self._begin()
        try:
            refusal = await self._delayed_refusal()
            if refusal is not None:
                return refusal
            if self._words.body is not None:
                self._charge("whole")
                return self._recording.whole(web.Response(text=self._words.body))
            if self._words.reset:
                self._cut()
                return web.Response()
            return await self._stream()
        except asyncio.CancelledError:
            self._settle_left()
            raise
        except ClientConnectionResetError:  # a disconnect that a write noticed
            self._settle_left()
            return web.Response()
        finally:
            self._end()

    def _settle_left(self) -> None:
        """Charge the part that was sent, unless the request is charged already or would have been refused."""
        if not self._is_settled and not self._refused():
            self._charge("left")

    def _begin(self) -> None:
        if self._wire.is_charged:
            self._provider.calls += 1
            self._provider.in_flight += 1
            self._provider.most_in_flight = max(self._provider.most_in_flight, self._provider.in_flight)

    def _end(self) -> None:
        if self._wire.is_charged:
            self._provider.in_flight -= 1

    async def _delayed_refusal(self) -> web.Response | None:
        if self._words.delay_ms:
            await asyncio.sleep(self._words.delay_ms / 1000)
        status, words, reason = self._refused(), self._words, self._ruled_out
        if not status and reason is None:
            return None
        self._is_settled = True
        message, code, is_anthropic = unquote(words.message), words.code, self._wire.is_anthropic
        if not status:
            status, message = 400, reason or ""
        return self._recording.whole(
            refusal(status, words.after, is_anthropic=is_anthropic, message=message, code=code)
        )

    def _refused(self) -> int:
        """Return the status of the refusal; 0 if the request is answered."""
        if has_wrong_key(self._request):
            return 401
        if self._words.once and self.model_request.prompt not in self._provider.seen:
            self._provider.seen.add(self.model_request.prompt)
            return self._words.once
        return self._words.status

    def kept(self) -> dict[str, Any] | None:
        """Return the response as it is kept; None: it is not there."""
        assert self._wire.kept is not None, "a response that is kept"
        if self._charged is None:
            return self._wire.kept(self._answer, "in_progress")
        end, usage = self._charged
        return self._wire.kept(replace(self._answer, usage=usage), "completed" if end == "whole" else "cancelled")

    async def _stream(self) -> web.StreamResponse:
        if self._kept_as is not None:
            self._keep(self._kept_as)
        response = web.StreamResponse(headers=self._headers() | {"cache-control": "no-cache"})
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        await response.prepare(self._request)
        self._recording.head(response)
        frames = list(self._frames())
        if self._words.nolast:
            del frames[-1]
        for frame in frames:
            if self._words.stops_after == self._sent_deltas and (self._sent_deltas or frame.is_delta):
                await self._stop(response)
                return response
            if self._words.pace_ms and frame.is_delta and self._sent_deltas:
                await asyncio.sleep(self._words.pace_ms / 1000)
            if frame is frames[-1]:
                self._charge("whole")  # before it is sent: a client that has seen the end can read the bill
            await self._write(response, frame.data)
            self._sent_frames += 1
            self._sent_deltas += frame.is_delta
        self._recording.is_whole = True
        await response.write_eof()
        return response

    def _frames(self) -> Iterator[Frame]:
        assert self._wire.frames is not None
        frames = self._wire.frames(self._answer)
        return add_unknown_frames(frames, names_events=self._wire.names_events) if self._words.tomorrow else frames

    async def _stop(self, response: web.StreamResponse) -> None:
        """Stall, cut the connection or send an error, as the prompt says."""
        assert self._wire.stream_error is not None
        if self._words.stops_after == self._words.stall:
            await asyncio.sleep(MAX_STALL_S)
        if self._words.stops_after != self._words.streamerror:
            self._cut()
            return
        self._charge("error")
        await self._write(response, self._wire.stream_error(self._answer, self._sent_frames))
        self._recording.is_whole = True
        await response.write_eof()

    def _cut(self) -> None:
        self._charge("cut")
        self._break()

    def _break(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        for n, piece in enumerate(_within_characters(data) if self._words.split == "utf8" else [data]):
            if n:
                await asyncio.sleep(SPLIT_PAUSE_S)
            await response.write(piece)
            self._recording.answer += piece
            self._last_write_s = time.monotonic()

    def _charge(self, end: bill.End) -> None:
        """Add the call to the bill: the whole response, or the part that was sent."""
        self._is_settled = True
        if not self._wire.is_charged:
            return
        is_whole = end == "whole"
        usage = self._usage if is_whole else bill.sent_so_far(self._usage, self._sent_deltas, self._deltas)
        self._charged = end, usage
        left = end == "left" and self._last_write_s is not None
        self._provider.bill.append(
            bill.row(
                number=self._recording.number,
                model=self.model_request.model,
                prompt=self.model_request.prompt,
                usage=usage,
                stream=self.model_request.stream,
                end=end,
                noticed_after_ms=(time.monotonic() - (self._last_write_s or 0)) * 1000 if left else None,
            )
        )

    def _headers(self) -> dict[str, str]:
        return {"x-request-id": "upstream"} | ({"request-id": "upstream"} if self._wire.is_anthropic else {})


def has_wrong_key(request: web.Request) -> bool:
    """Return whether the request has a key that the provider refuses."""
    return "sk-wrong" in request.headers.get("authorization", request.headers.get("x-api-key", ""))


def refusal(status: int, after: str, *, is_anthropic: bool, message: str = "", code: str = "") -> web.Response:
    """Return a refusal in the vendor's shape. `after` is the Retry-After of a 429, in seconds."""
    message = message or f"refused with {status}"
    if status == 401:
        message += ": Incorrect API key provided: sk-wrong-canary"
    kind = "invalid_request_error" if status < 500 else "server_error"
    error: dict[str, Any] = {"message": message, "type": kind, "code": code or f"code_{status}", "param": "messages"}
    body = {"type": "error", "error": error} if is_anthropic else {"error": error}
    return web.json_response(body, status=status, headers={"retry-after": after} if status == 429 else {})


def _within_characters(data: bytes) -> Iterator[bytes]:
    """Split the bytes after the first byte of each multi-byte character."""
    start = 0
    for position, byte in enumerate(data):
        if byte >= _FIRST_LEAD_BYTE:
            yield data[start : position + 1]
            start = position + 1
    yield data[start:]
