"""Members of a JSON body are changed only if necessary, and every other byte stays the same."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.dialects.errors import UnreadableResponse
from domain.dialects.passthrough.json_edit import event_with_cost, rewrite, with_cost, without_usage, without_usages
from domain.dialects.sse import SseEvent, sse
from domain.errors import InvalidRequest
from tests.support.sdk_streams import events_of

COST = Decimal("0.000000012")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def event(raw: bytes) -> SseEvent:
    (only,) = events_of(raw)
    return only


def test_edit_keeps_unchanged_bytes_and_order() -> None:
    body = b'{"messages": [ {"a":1.10} ], "model":"x", "n": 1e2, "new_field": {"b" : null}}'
    changes = {"model": "y", "max_tokens": 5, "stream_options": {"include_usage": True}}
    assert rewrite(body, changes) == (
        b'{"messages": [ {"a":1.10} ], "model":"y", "n": 1e2, "new_field": {"b" : null},'
        b'"max_tokens":5,"stream_options":{"include_usage":true}}'
    )


@given(
    st.dictionaries(st.text(max_size=5), VALUES, max_size=5), st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
)
def test_only_named_members_are_changed(members: dict[str, object], changes: dict[str, object]) -> None:
    changed = rewrite(msgspec.json.encode(members), changes)
    assert list(msgspec.json.decode(changed).items()) == list((members | changes).items())


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5), st.sampled_from((None, 1, 3)))
def test_a_request_that_has_these_values_keeps_every_byte(members: dict[str, object], indent: int | None) -> None:
    body = json.dumps(members, indent=indent, ensure_ascii=indent == 3).encode()
    assert rewrite(body, members) == body


@given(VALUES, VALUES, st.text(max_size=5), st.sampled_from((None, 1, 3)))
def test_only_the_bytes_of_the_changed_value_change(old: object, new: object, name: str, indent: int | None) -> None:
    before, after = ('{ "a\\"" :\t{"b": [1] }', name), ('"z"\n: "}" }\r\n', indent)
    named = json.dumps(f"_{name}")
    start, end = f"{before[0]},{named} : ".encode(), f"\n,{after[0]}".encode()
    value = json.dumps(old, indent=indent).encode()
    written = value if json.dumps(old) == json.dumps(new) else msgspec.json.encode(new)
    assert rewrite(start + value + end, {f"_{name}": new}) == start + written + end


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'{ "a" :1, "a": 2 }', b'{"a":{"b":1}, "a":2}'])
def test_of_a_name_given_twice_the_last_value_counts(body: bytes) -> None:
    assert rewrite(body, {}) == b'{"a":2}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"{}", b'{"m":"y"}'), (b" { } ", b' {"m":"y" } '), (b'{ "a" : 1 }\n', b'{ "a" : 1,"m":"y" }\n')],
)
def test_new_member_is_appended(body: bytes, expected: bytes) -> None:
    assert rewrite(body, {"m": "y"}) == expected


def test_one_is_not_true() -> None:
    assert rewrite(b'{"a": 1}', {"a": True}) == b'{"a": true}'


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":' + b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        rewrite(body, {"model": "y"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":"x","usage":{"a": 1}, "z" :2.0}', b'{"id":"x","usage":{"a": 1,"cost":0.000000012}, "z" :2.0}'),
        (b'{ "usage": {"b": {"cost":7}, "a" : 1 } }', b'{ "usage": {"b": {"cost":7}, "a" : 1,"cost":0.000000012 } }'),
        (b'{"usage":{"cost":7}}', b'{"usage":{"cost":0.000000012}}'),
        (b'{"type":"t","response":{"usage":{"a":1}}}', b'{"type":"t","response":{"usage":{"a":1,"cost":0.000000012}}}'),
        (
            b'{"x":{"usage":{"a":1}},"usage":{"a":1},"text":"\\"usage\\""}',
            b'{"x":{"usage":{"a":1}},"usage":{"a":1,"cost":0.000000012},"text":"\\"usage\\""}',
        ),
        (
            b'{"x":{"usage":{"a":1}},"\\u0075sage":{"a":1}}',
            b'{"x":{"usage":{"a":1}},"\\u0075sage":{"a":1,"cost":0.000000012}}',
        ),
        (b'{"usage":{"a":1},"usage":{"a":2}}', b'{"usage":{"a":2,"cost":0.000000012}}'),
        (b'{"text":"usage","usage" :\t{"a":1 }}', b'{"text":"usage","usage" :\t{"a":1,"cost":0.000000012 }}'),
        (b'{ "usage": null }', b'{ "usage": null }'),
        (b'{ "id": 1 }', b'{ "id": 1 }'),
        (b'{ "response": {"usage": null} }', b'{ "response": {"usage": null} }'),
    ],
)
def test_the_cost_joins_the_usage(body: bytes, expected: bytes) -> None:
    assert with_cost(body, COST) == expected


def test_an_unknown_cost_is_null() -> None:
    assert with_cost(b'{"usage":{}}', None) == b'{"usage":{"cost":null}}'


def test_an_answer_that_is_none_has_no_cost() -> None:
    with pytest.raises(UnreadableResponse):
        with_cost(b"<html>", COST)


def test_an_events_other_lines_stay_as_they_came() -> None:
    raw = b'id: 7\r\nevent: message_delta\r\ndata: {"usage":{"a":1}}\r\n\r\n'
    expected = b'id: 7\r\nevent: message_delta\r\ndata: {"usage":{"a":1,"cost":0.000000012}}\r\n\r\n'
    assert event_with_cost(event(raw), COST) == expected


def test_an_event_of_several_lines_keeps_them() -> None:
    raw = b'event: e\ndata: {"usage":\ndata: {}}\n\n'
    assert event_with_cost(event(raw), COST) == b'event: e\ndata: {"usage":\ndata: {"cost":0.000000012}}\n\n'


@pytest.mark.parametrize(
    "raw", [b": ping\n\n", b"data: [DONE]\n\n", b'data: { "a": 1 }\n\n', b'data: {"usage": null }\n\n']
)
def test_an_event_without_usage_stays_as_it_came(raw: bytes) -> None:
    assert event_with_cost(event(raw), COST) == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b": ping\n\n", b": ping\n\n"),
        (b"data: [DONE]\n\n", b"data: [DONE]\n\n"),
        (b'data: {"choices":[{"x": 1}],"usage":null, "o":"p"}\n\n', b'data: {"choices":[{"x": 1}], "o":"p"}\n\n'),
        (b'data: {"usage":null,"choices":[{"x": 1}]}\n\n', b'data: {"choices":[{"x": 1}]}\n\n'),
        (b'data: {"choices":[{"x":1}],"usage" : null}\n\n', b'data: {"choices":[{"x":1}]}\n\n'),
        (
            b'data: {"choices":[{"d":1,"usage":null}],"usage": null}\n\n',
            b'data: {"choices":[{"d":1,"usage":null}]}\n\n',
        ),
        (b'data: {"choices":[{"d":1,"usage":null}]}\n\n', b'data: {"choices":[{"d":1,"usage":null}]}\n\n'),
        (
            b'data: {"choices":[{"d":"say \\",\\"usage\\":null"}],"usage":null}\n\n',
            b'data: {"choices":[{"d":"say \\",\\"usage\\":null"}]}\n\n',
        ),
        (b'data: { "usage" : null , "choices": [{}] }\n\n', b'data: {"choices": [{}] }\n\n'),
        (b'data: {"usage":null,"usage":null,"choices":[{}]}\n\n', b'data: {"choices":[{}]}\n\n'),
        (b'data: {"choices":[{}],"usage":null}\n\n', b'data: {"choices":[{}]}\n\n'),
        (
            b'data: {"choices":[{}],"usage":null,"obfuscation":"aB3"}\n\n',
            b'data: {"choices":[{}],"obfuscation":"aB3"}\n\n',
        ),
        (b'data: {"choices":[{"d":{"usage":null}}]}\n\n', b'data: {"choices":[{"d":{"usage":null}}]}\n\n'),
        (b'data: {"usage":{"a":1},"choices":[],"usage":null}\n\n', b'data: {"choices":[]}\n\n'),
        (b'data: {"choices":[],"usage":{"a":1}}\n\n', b""),
        (b'data: {"choices":[],"usage":null}\n\n', b'data: {"choices":[]}\n\n'),
        (b'data: {"choices":[{"f":"stop"}],"usage":{"a":1}}\n\n', b'data: {"choices":[{"f":"stop"}]}\n\n'),
    ],
)
def test_unrequested_usage_is_not_shown(raw: bytes, expected: bytes) -> None:
    assert without_usage(event(raw)) == expected


TOGETHER = st.lists(
    st.sampled_from(
        [
            b'data: {"choices":[{"x":1}],"usage":null}\n\n',
            b'data: {"choices":[{"x":1}],"usage":null,"obfuscation":"aZ9"}\n\n',
            b'data: {"choices":[{"x":1}],"usage":null}\r\n\r\n',
            b'data: {"choices":[{"x":{"usage":null}}],"usage":null}\n\n',
            b'data: {"choices":[{"x":1,"usage":null}]}\n\n',
            b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
            b'data: {"choices":[{"x":1}]}\n\n',
            b'data: {"choices":[{"x":1}]}\nid: ,"usage":null}\n\n',
            b': ,"usage":null}\n\n',
            b'event: a\ndata: {"choices":[{"x":1}],"usage":null}\n\n',
            b'data:{"choices":[{"x":1}],"usage":null}\n\n',
            b"data: [DONE]\n\n",
        ]
    ),
    min_size=1,
    max_size=6,
)


@given(TOGETHER)
def test_events_together_lose_the_usage_that_each_of_them_loses_alone(raws: list[bytes]) -> None:
    events = [event(raw) for raw in raws]
    assert without_usages(events) == b"".join(without_usage(one) for one in events)


def test_garbage_that_names_usage_is_unreadable() -> None:
    with pytest.raises(UnreadableResponse):
        without_usage(event(sse(b'{"usage":')))
