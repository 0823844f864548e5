"""Makes strange JSON of good JSON. It stays near enough to reach the code behind the first check."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

_RAW = {
    "@@deep lists": b"[" * 3_000 + b"]" * 3_000,
    "@@deep objects": b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
    "@@long number": b"9" * 5_000,
    "@@long fraction": b"0." + b"3" * 5_000,
    "@@huge number": b"1e400",
    "@@not a number": b"NaN",
    "@@lone surrogate": rb'"\ud800"',
    "@@not UTF-8": b'"\xff\xfe"',
    "@@control": b'"\x01"',
    "@@twice": b'{"type":"text","type":null,"text":"a","text":{}}',
}
"""Values that no encoder writes, by the text that stands for each until the rest is encoded."""

_PLAIN: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    -0.0,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63) - 1,
    1e308,
    10**40,
    "",
    " ",
    "\x00",
    "a\x00b",
    "\x1b[31m",
    "\u202e",
    "\ufeff",
    "模型",
    "x" * 20_000,
    "data:image/png;base64,",
    "https://",
    "../..",
    [],
    {},
    [[]],
    [{}],
    [None],
    {"": None},
    {"\x00": 1},
    [0] * 300,
    {"type": None},
    {"type": "no such type"},
    {"type": []},
)
_VALUES = st.sampled_from((*_PLAIN, *_RAW))
_NAMES = st.sampled_from(("type", "role", "content", "id", "", "\x00", "new_field", "model", "$ref", "__proto__"))


def encoded(value: Any) -> bytes:
    """Encode JSON, with the values that stand for what no encoder writes."""
    written = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    for name, raw in _RAW.items():
        written = written.replace(json.dumps(name).encode(), raw)
    return written


@st.composite
def strange_json(draw: st.DrawFn, seeds: tuple[Any, ...]) -> bytes:
    """JSON that was a seed until one to four of its places were changed; sometimes its bytes were, too."""
    value = deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        places = _places(value)
        if places:
            draw(st.sampled_from(_CHANGES))(draw, value, draw(st.sampled_from(places)))
    written = encoded(value)
    return draw(st.one_of(st.just(written), st.just(written), st.just(written), _broken(written)))


def _places(value: Any) -> list[Path]:
    """The paths of all values inside a value."""
    found: list[Path] = []

    def walk(inner: Any, path: Path) -> None:
        items = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        for key, item in items:
            found.append((*path, key))
            walk(item, (*path, key))

    walk(value, ())
    return found


def _holder(value: Any, path: Path) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def _replace(draw: st.DrawFn, value: Any, path: Path) -> None:
    _holder(value, path)[path[-1]] = deepcopy(draw(_VALUES))


def _remove(_draw: st.DrawFn, value: Any, path: Path) -> None:
    del _holder(value, path)[path[-1]]


def _wrap(draw: st.DrawFn, value: Any, path: Path) -> None:
    holder = _holder(value, path)
    holder[path[-1]] = draw(st.sampled_from((lambda v: [v], lambda v: {"value": v}, str, lambda v: [v] * 3)))(
        holder[path[-1]]
    )


def _repeat(draw: st.DrawFn, value: Any, path: Path) -> None:
    holder = _holder(value, path)
    if isinstance(holder, list):
        holder.extend([holder[int(path[-1])]] * draw(st.sampled_from((1, 2, 150))))


def _move(draw: st.DrawFn, value: Any, path: Path) -> None:
    """Put one part of the value in the place of another one."""
    source = draw(st.sampled_from(_places(value)))
    moved = deepcopy(_holder(value, source)[source[-1]])
    _holder(value, path)[path[-1]] = moved


def _add(draw: st.DrawFn, value: Any, path: Path) -> None:
    holder = _holder(value, path)
    target = holder[path[-1]] if isinstance(holder[path[-1]], dict) else holder
    if isinstance(target, dict):
        target[draw(_NAMES)] = deepcopy(draw(_VALUES))


_CHANGES: tuple[Callable[[st.DrawFn, Any, Path], None], ...] = (
    _replace,
    _replace,
    _remove,
    _wrap,
    _repeat,
    _move,
    _add,
)


@st.composite
def _broken(draw: st.DrawFn, written: bytes) -> bytes:
    """The bytes, cut or with others in between."""
    at = draw(st.integers(0, len(written)))
    rest = draw(
        st.sampled_from(
            (b"", written[at:], b"\x00" + written[at:], b"\xef\xbb\xbf" + written[at:], b'"' + written[at:])
        )
    )
    return written[:at] + rest
