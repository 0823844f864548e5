"""What one process finds out of a provider that lacks a call, all know, for an hour."""

import pytest

from api.missing_calls import REMEMBERED_S, MissingCalls
from domain.routing import Target


def target(model: str = "m") -> Target:
    return Target(model=model, provider="mine", kind="openai", upstream_model=model, base_url="https://x/v1")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def nobody(_announced: bytes) -> None:
    """Announce nothing."""


async def test_a_missing_call_is_known_to_every_process_for_an_hour() -> None:
    clock = Clock()
    other = MissingCalls(nobody, clock=clock)

    async def announce(announced: bytes) -> None:
        other.take(announced.decode())

    one = MissingCalls(announce, clock=clock)
    assert one.has("p", target(), "responses")
    await one.add("p", target(), "responses")
    assert not one.has("p", target(), "responses")
    assert not other.has("p", target(), "responses")
    clock.now = REMEMBERED_S
    assert other.has("p", target(), "responses")


async def test_a_call_may_be_missing_for_one_model_alone() -> None:
    calls = MissingCalls(nobody)
    await calls.add("p", target("a"), "responses")
    assert calls.has("p", target("b"), "responses")
    assert calls.has("p", target("a"), "count_tokens")


async def test_what_one_project_finds_out_changes_no_other_projects_requests() -> None:
    calls = MissingCalls(nobody)
    await calls.add("p", target(), "responses")
    assert calls.has("other", target(), "responses")


@pytest.mark.parametrize("announced", ["", "{}", "[]", '{"base_url":1}', "\x00"])
def test_what_no_process_of_today_announces_is_ignored(announced: str) -> None:
    calls = MissingCalls(nobody)
    calls.take(announced)
    assert calls.has("p", target(), "responses")
