"""The loads of `make bench`: what is sent."""

import json

import pytest

from bench.rows import LOADS, PROMPT_BYTES, Bodies, Load
from bench.stub_provider import delay_of, deltas_of, whole


@pytest.mark.parametrize("kind", LOADS, ids=lambda one: f"{one.name}, {one.connections}")
def test_prompts_have_a_kilobyte_and_differ_unless_the_cache_is_to_answer(kind: Load) -> None:
    bodies = Bodies(kind)
    prompts = [json.loads(bodies(number))["messages"][0]["content"] for number in range(10)]
    assert {len(prompt) for prompt in prompts} == {PROMPT_BYTES}
    assert len(set(prompts)) == (1 if kind.is_hit else 10)


@pytest.mark.parametrize("kind", LOADS, ids=lambda one: f"{one.name}, {one.connections}")
def test_the_provider_does_what_the_row_says(kind: Load) -> None:
    body = Bodies(kind)(0)
    assert delay_of(body) == kind.delay_ms / 1000
    if kind.is_stream:
        assert deltas_of(body) == 22
    else:
        answer = json.loads(whole(body).partition(b"\r\n\r\n")[2])
        assert answer["usage"]["completion_tokens"] == 64
        assert answer["choices"][0]["message"]["content"] == " Paris" * 64


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({(kind.name, kind.connections) for kind in LOADS}) == len(LOADS)
