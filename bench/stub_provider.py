"""A stub provider that uses little CPU: it sends constant responses, after a delay if one is given.

It answers as messages if the path ends in `/messages`, otherwise as chat completions. A request with `"stream": true`
gets a stream. The number of its deltas is N of `[[chunks=N]]` in the prompt, else `max_tokens` (or
`max_completion_tokens`), else `DEFAULT_DELTAS`. Each event is a chunk, and all chunks go out in one write unless a pace
is given. A whole answer has and bills N output tokens of `[[tokens=N]]` in the prompt, else 8, and its text has N bytes
of `[[bytes=N]]`. `[[delay=N]]` delays an answer by N ms more. With `[[drip]]` in the prompt an answer of either kind is
sent a byte a second. `GET /billed` returns how
many whole answers were asked for.
"""

import argparse
import asyncio
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import cast

import uvloop

DEFAULT_DELTAS = 22
MAX_DELTAS = 10_000
MAX_STREAMS_KEPT = 64
MAX_TEXT_BYTES = 4 * 1024 * 1024
DRIP_S = 1.0
TOKENS_IN = 25

TEXT = b"The capital of France is Paris."
BODY = (
    b'{"id":"chatcmpl-BenchBenchBenchBenchBench","object":"chat.completion","created":1700000000,'
    b'"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":'
    b'"The capital of France is Paris.","refusal":null},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":25,"completion_tokens":8,"total_tokens":33,"prompt_tokens_details":'
    b'{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}'
)
MESSAGE = (
    b'{"id":"msg_BenchBenchBenchBenchBench","type":"message","role":"assistant","model":"claude-3-haiku-20240307",'
    b'"content":[{"type":"text","text":"The capital of France is Paris."}],"stop_reason":"end_turn",'
    b'"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":0,'
    b'"cache_read_input_tokens":0,"output_tokens":8}}'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
ANSWER = HEAD % (len(BODY), BODY)
MESSAGE_ANSWER = HEAD % (len(MESSAGE), MESSAGE)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_STREAM = re.compile(rb'"stream":\s*true')
_USAGE = re.compile(rb'"include_usage":\s*true')
_TOKENS = re.compile(rb"\[\[tokens=(\d+)\]\]")
_BYTES = re.compile(rb"\[\[bytes=(\d+)\]\]")
_DELAY = re.compile(rb"\[\[delay=(\d+)\]\]")
_DRIP = b"[[drip]]"
_DELTAS = re.compile(rb'\[\[chunks=(\d+)\]\]|"max_(?:completion_)?tokens":\s*(\d+)')


@lru_cache(maxsize=MAX_STREAMS_KEPT)
def billing(tokens: int) -> bytes:
    """Return the whole answer of a chat completion that has and bills so many output tokens."""
    body = BODY.replace(b'"completion_tokens":8,"total_tokens":33', b'"completion_tokens":%d,"total_tokens":%d')
    filled = (body % (tokens, TOKENS_IN + tokens)).replace(TEXT, b" Paris" * min(tokens, MAX_DELTAS))
    return HEAD % (len(filled), filled)


@lru_cache(maxsize=MAX_STREAMS_KEPT)
def long(text_bytes: int) -> bytes:
    """Return the whole answer of a chat completion whose text has so many bytes."""
    filled = BODY.replace(TEXT, b"p" * min(text_bytes, MAX_TEXT_BYTES))
    return HEAD % (len(filled), filled)


def whole(body: bytes) -> bytes:
    """Return the whole answer to a chat completion, as long and as costly as the prompt says."""
    if (size := _BYTES.search(body)) is not None:
        return long(int(size[1]))
    tokens = _TOKENS.search(body)
    return ANSWER if tokens is None else billing(int(tokens[1]))


def delay_of(body: bytes) -> float:
    """Return the seconds by which the prompt delays the answer."""
    found = _DELAY.search(body)
    return int(found[1]) / 1000 if found else 0.0


def deltas_of(body: bytes) -> int:
    """Return the number of deltas of a stream. `[[chunks=N]]` takes precedence over the output cap."""
    matches = _DELTAS.findall(body)
    number = next((chunks for chunks, _ in matches if chunks), None) or next((cap for _, cap in matches), None)
    return min(int(number or DEFAULT_DELTAS), MAX_DELTAS)


def chat_events(deltas: int, *, has_usage: bool) -> Iterator[bytes]:
    """Yield the events of a chat completion."""
    usage = b',"usage":null' if has_usage else b""
    head = (
        b'data: {"id":"chatcmpl-BenchBenchBenchBenchBench","object":"chat.completion.chunk","created":1700000000,'
        b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_bench"'
    )
    choice = head + b',"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]' + usage + b"}\n\n"
    yield choice % (b'{"role":"assistant","content":"","refusal":null}', b"null")
    for _ in range(deltas):
        yield choice % (b'{"content":" Paris"}', b"null")
    yield choice % (b"{}", b'"stop"')
    if has_usage:
        counted = (
            b',"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
            b'"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}\n\n'
        )
        yield head + counted % (TOKENS_IN, deltas, TOKENS_IN + deltas)
    yield b"data: [DONE]\n\n"


def message_events(deltas: int) -> Iterator[bytes]:
    """Yield the events of a message."""
    event = b'event: %s\ndata: {"type":"%s"%s}\n\n'

    def named(name: bytes, rest: bytes) -> bytes:
        return event % (name, name, rest)

    usage = b'{"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":%d}'
    yield named(
        b"message_start",
        b',"message":{"id":"msg_BenchBenchBenchBenchBench","type":"message","role":"assistant",'
        b'"model":"claude-3-haiku-20240307","content":[],"stop_reason":null,"stop_sequence":null,"usage":%s}'
        % (usage % (TOKENS_IN, 1)),
    )
    yield named(b"content_block_start", b',"index":0,"content_block":{"type":"text","text":""}')
    yield named(b"ping", b"")
    for _ in range(deltas):
        yield named(b"content_block_delta", b',"index":0,"delta":{"type":"text_delta","text":" Paris"}')
    yield named(b"content_block_stop", b',"index":0')
    stopped = b',"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":%s'
    yield named(b"message_delta", stopped % (usage % (TOKENS_IN, deltas)))
    yield named(b"message_stop", b"")


@lru_cache(maxsize=MAX_STREAMS_KEPT)
def stream(deltas: int, *, is_message: bool, has_usage: bool) -> tuple[bytes, ...]:
    """Return a stream in parts, for one write each at a pace."""
    events = message_events(deltas) if is_message else chat_events(deltas, has_usage=has_usage)
    first, *rest = [b"%x\r\n%s\r\n" % (len(event), event) for event in events]
    return tuple(chain([STREAM_HEAD + first], rest, [LAST_CHUNK]))


@lru_cache(maxsize=MAX_STREAMS_KEPT)
def stream_at_once(deltas: int, *, is_message: bool, has_usage: bool) -> bytes:
    """Return a whole stream, for one write."""
    return b"".join(stream(deltas, is_message=is_message, has_usage=has_usage))


class Stub(asyncio.Protocol):
    """Reads requests with a Content-Length, and answers each."""

    def __init__(self, delay_s: float, pace_s: float, billed: list[int]) -> None:
        self._billed = billed
        self._delay_s = delay_s
        self._pace_s = pace_s
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the responses."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in the buffer."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            is_message = b"/messages" in head.split(b"\r\n", 1)[0]
            if head.startswith(b"get /billed"):
                count = str(self._billed[0]).encode()
                self._write(HEAD % (len(count), count))
            elif delay_s := self._delay_s + delay_of(body):
                asyncio.get_running_loop().call_later(delay_s, self._answer, body, is_message)
            else:
                self._answer(body, is_message)

    def _answer(self, body: bytes, is_message: bool) -> None:
        if _STREAM.search(body) is None:
            self._billed[0] += 1
            self._send(MESSAGE_ANSWER if is_message else whole(body), is_dripped=_DRIP in body)
            return
        deltas, has_usage = deltas_of(body), _USAGE.search(body) is not None
        if self._pace_s:
            self._write_paced(iter(stream(deltas, is_message=is_message, has_usage=has_usage)), self._pace_s)
        else:
            at_once = stream_at_once(deltas, is_message=is_message, has_usage=has_usage)
            self._send(at_once, is_dripped=_DRIP in body)

    def _send(self, data: bytes, *, is_dripped: bool) -> None:
        """Send an answer; a dripped one has its head at once, and then a byte a second."""
        if not is_dripped:
            self._write(data)
            return
        head, mark, rest = data.partition(b"\r\n\r\n")
        self._write_paced(chain([head + mark], (rest[at : at + 1] for at in range(len(rest)))), DRIP_S)

    def _write_paced(self, parts: Iterator[bytes], pace_s: float) -> None:
        part = next(parts, None)
        if part is not None and self._write(part):
            asyncio.get_running_loop().call_later(pace_s, self._write_paced, parts, pace_s)

    def _write(self, data: bytes) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        return True


async def serve(port: int, delay_s: float, pace_s: float) -> None:
    """Serve on loopback until the process ends."""
    billed = [0]
    server = await asyncio.get_running_loop().create_server(lambda: Stub(delay_s, pace_s, billed), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0, help="before an answer")
    parser.add_argument("--pace-ms", type=float, default=0, help="between the events of a stream (0: one write)")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.delay_ms / 1000, arguments.pace_ms / 1000))
