"""One request and what becomes of it: refused, answered in one piece, streamed, or broken, as its prompt says."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from aiohttp import ClientConnectionResetError, web
from msgspec import Struct
from msgspec.structs import replace

from tests.provider import bill
from tests.provider.future_fields import answer_of_tomorrow, frames_of_tomorrow
from tests.provider.recorded import Recording, Recordings
from tests.provider.request_model import Answer, Frame, RequestContext, plan
from tests.provider.steering import steering

MAX_STALL_S = 600.0
SPLIT_PAUSE_S = 0.002
"""Between two writes that are to arrive one by one."""
_FIRST_LEAD_BYTE = 0xC0

_dumps = partial(json.dumps, ensure_ascii=False)


class Wire(Struct, frozen=True, kw_only=True):
    """A vendor's call: how its request is read, and how its answer is written."""

    asked: Callable[[dict[str, Any]], RequestContext]
    whole: Callable[[Answer], dict[str, Any]]
    frames: Callable[[Answer], Iterator[Frame]] | None = None
    stream_error: Callable[[Answer, int], bytes] | None = None
    """The error inside a stream after so many frames."""
    names_events: bool = False
    """Whether its events have types."""
    is_anthropic: bool = False
    is_charged: bool = True
    counts_output: bool = True


class Provider:
    """The state of the provider: what it has charged, what is under way, what came in and went out."""

    def __init__(self) -> None:
        self.bill: list[dict[str, Any]] = []
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.seen: set[str] = set()
        self.recordings = Recordings()
        self.under_way: set[asyncio.Task[web.Response]] = set()


class Exchange:
    """One request, and what has been sent for it."""

    def __init__(self, provider: Provider, wire: Wire, request: web.Request, recording: Recording) -> None:
        self._provider = provider
        self._wire = wire
        self._request = request
        self._recording = recording
        body = json.loads(recording.body)
        self.asked = wire.asked(body)
        self._words = words = steering(f"{self.asked.prompt}\n{self.asked.user}")
        planned = plan(self.asked, words)
        self._deltas = planned.deltas
        counted = self._deltas if self.asked.stream else words.chunks
        usage = bill.usage_of(self.asked.prompt, words, counted)
        self._usage = usage if wire.counts_output else replace(usage, tokens_out=0)
        reported = bill.reported(self._usage, words)
        self._answer = Answer(body=body, asked=self.asked, plan=planned, usage=reported)
        self._sent_frames = 0
        self._sent_deltas = 0
        self._last_write_s: float | None = None
        self._is_settled = False
        """Whether it is charged, or refused and never will be."""

    async def in_one_piece(self) -> web.Response:
        """Answer to the end, whether or not the client waits for it."""
        self._begin()
        try:
            refusal = await self._delayed_refusal()
            if refusal is not None:
                return refusal
            self._charge("whole")
            if self._words.reset:
                self._break()
                return web.Response()
            if self._words.garbage:
                return self._recording.whole(web.Response(text="<html>oops</html>"))
            found = _dumps(self._wire.whole(self._answer)).encode()
            found = answer_of_tomorrow(found) if self._words.tomorrow else found
            answer = web.Response(body=found, content_type="application/json", headers=self._headers())
            return self._recording.whole(answer)
        finally:
            self._end()

    async def as_stream(self) -> web.StreamResponse:
        """Stream the answer; one whose client leaves is charged as far as it came."""
        self._begin()
        try:
            refusal = await self._delayed_refusal()
            if refusal is not None:
                return refusal
            if self._words.garbage:
                self._charge("whole")
                return self._recording.whole(web.Response(text="<html>oops</html>"))
            if self._words.reset:
                self._cut()
                return web.Response()
            return await self._stream()
        except asyncio.CancelledError:
            self._settle_left()
            raise
        except ClientConnectionResetError:  # the same, noticed by a write
            self._settle_left()
            return web.Response()
        finally:
            self._end()

    def _settle_left(self) -> None:
        """Charge what was sent, unless that is done, or the request would have been refused."""
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
        status = self._refused()
        if not status:
            return None
        self._is_settled = True
        return self._recording.whole(refusal(status, self._words.after, is_anthropic=self._wire.is_anthropic))

    def _refused(self) -> int:
        """The status of the refusal, 0 where it is answered."""
        if has_wrong_key(self._request):
            return 401
        if self._words.once and self.asked.prompt not in self._provider.seen:
            self._provider.seen.add(self.asked.prompt)
            return self._words.once
        return self._words.status

    async def _stream(self) -> web.StreamResponse:
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
                self._charge("whole")  # before it is sent: who has seen the end finds it on the bill
            await self._write(response, frame.data)
            self._sent_frames += 1
            self._sent_deltas += frame.is_delta
        self._recording.is_whole = True
        await response.write_eof()
        return response

    def _frames(self) -> Iterator[Frame]:
        assert self._wire.frames is not None
        frames = self._wire.frames(self._answer)
        return frames_of_tomorrow(frames, names_events=self._wire.names_events) if self._words.tomorrow else frames

    async def _stop(self, response: web.StreamResponse) -> None:
        """Do what the prompt asks for instead of going on."""
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
        """Write the call on the bill: all of it, or as far as it has been sent."""
        self._is_settled = True
        if not self._wire.is_charged:
            return
        is_whole = end == "whole"
        left = end == "left" and self._last_write_s is not None
        self._provider.bill.append(
            bill.row(
                number=self._recording.number,
                model=self.asked.model,
                prompt=self.asked.prompt,
                usage=self._usage if is_whole else bill.sent_so_far(self._usage, self._sent_deltas, self._deltas),
                stream=self.asked.stream,
                end=end,
                noticed_after_ms=(time.monotonic() - (self._last_write_s or 0)) * 1000 if left else None,
            )
        )

    def _headers(self) -> dict[str, str]:
        return {"x-request-id": "upstream"} | ({"request-id": "upstream"} if self._wire.is_anthropic else {})


def has_wrong_key(request: web.Request) -> bool:
    """Whether the request's key is one that the provider does not know."""
    return "sk-wrong" in request.headers.get("authorization", request.headers.get("x-api-key", ""))


def refusal(status: int, after: str, *, is_anthropic: bool) -> web.Response:
    """A refusal in the vendor's shape; `after` is the Retry-After of a 429, in seconds."""
    message = f"refused with {status}"
    if status == 401:
        message += ": Incorrect API key provided: sk-wrong-canary"
    kind = "invalid_request_error" if status < 500 else "server_error"
    error: dict[str, Any] = {"message": message, "type": kind, "code": f"code_{status}", "param": "messages"}
    body = {"type": "error", "error": error} if is_anthropic else {"error": error}
    return web.json_response(body, status=status, headers={"retry-after": after} if status == 429 else {})


def _within_characters(data: bytes) -> Iterator[bytes]:
    """The bytes in pieces that all but the last end after the first byte of a multi-byte character."""
    start = 0
    for position, byte in enumerate(data):
        if byte >= _FIRST_LEAD_BYTE:
            yield data[start : position + 1]
            start = position + 1
    yield data[start:]
