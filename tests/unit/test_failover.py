"""When a request goes on to its next target, after which pause, and how long an attempt may take."""

import pytest

from domain.errors import (
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.failover import MAX_RETRY_WAIT_S, CallLimits, NextAttempt, call_limits, cause_of, next_attempt
from domain.provider_refusals import Reason, Refusal
from domain.routes import DEFAULT_CAUSES, FailoverCause, RouteTarget


def error(kind: type[ProviderError], status: int | None = None, reason: Reason | None = None) -> ProviderError:
    made = kind("it failed", provider="openai", status=status)
    made.refusal = Refusal(reason=reason) if reason is not None else None
    return made


def after(failure: ProviderError, *, tries: int = 1, has_next: bool = True, draw: float = 0.5) -> NextAttempt | None:
    """What follows the failure of an attempt at the first target."""
    return next_attempt(
        failure,
        target=0,
        tries=tries,
        has_next=has_next,
        fail_over_on=DEFAULT_CAUSES,
        most_tries=2,
        remaining_s=60,
        draw=draw,
    )


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (error(ProviderUnavailable), "connection"),
        (error(ProviderLost), "connection"),
        (error(ProviderUnavailable, 500), "server_error"),
        (error(ProviderUnavailable, 529), "server_error"),
        (error(ProviderTimeout), "timeout"),
        (error(ProviderTimeout, 408), "timeout"),
        (error(ProviderRateLimited, 429), "rate_limit"),
        (error(ProviderRejected, 429, "billing"), "rate_limit"),
        (error(ProviderRejected, 402, "billing"), "credentials"),
        (error(ProviderCredentials, 401), "credentials"),
        (error(ProviderRejected, 400, "context_length"), "context_length"),
        (error(ProviderRejected, 500, "context_length"), "context_length"),
        (error(ProviderRejected, 400, "content_filter"), "content_filter"),
        (error(ProviderRejected, 400), None),
        (error(ProviderRejected, 404, "model_not_found"), None),
        (error(ProviderRejected, 400, "output_cap"), None),
        (error(ProviderRejected, 422), None),
    ],
)
def test_each_failure_has_its_cause(failure: ProviderError, cause: FailoverCause | None) -> None:
    assert cause_of(failure) == cause


@pytest.mark.parametrize("failure", [error(ProviderLost), error(ProviderTimeout)])
def test_a_call_that_may_have_been_charged_is_not_repeated_but_goes_on(failure: ProviderError) -> None:
    assert after(failure) == NextAttempt(1, 0.0)
    assert after(failure, has_next=False) is None


@pytest.mark.parametrize("failure", [error(ProviderRejected, 400), error(ProviderCredentials, 401)])
def test_what_is_not_asked_for_ends_the_request(failure: ProviderError) -> None:
    assert after(failure) is None


def test_a_target_without_any_credential_is_passed_over_whatever_the_route_says() -> None:
    assert after(error(ProviderCredentials)) == NextAttempt(1, 0.0)


def test_a_target_is_tried_as_often_as_its_plan_says_before_the_next_one() -> None:
    down = error(ProviderUnavailable, 500)
    assert after(down) == NextAttempt(0, 0.25)
    assert after(down, tries=2) == NextAttempt(1, 0.0)
    assert after(down, tries=2, has_next=False) is None


def test_the_pause_is_exponential_with_full_jitter() -> None:
    longest = [
        next_attempt(
            error(ProviderUnavailable),
            target=0,
            tries=tries,
            has_next=False,
            fail_over_on=(),
            most_tries=4,
            remaining_s=60,
            draw=draw,
        )
        for tries in (1, 2, 3)
        for draw in (0.0, 1.0)
    ]
    assert [step.wait_s for step in longest if step] == [0.0, 0.5, 0.0, 1.0, 0.0, 2.0]


def test_a_provider_that_asks_for_a_long_wait_is_left_for_the_next_one() -> None:
    limited = error(ProviderRateLimited, 429)
    limited.retry_after_s = 0.5
    assert after(limited) == NextAttempt(0, 0.5)
    limited.retry_after_s = 3.0
    assert after(limited) == NextAttempt(1, 0.0)
    assert after(limited, has_next=False) == NextAttempt(0, 3.0)
    limited.retry_after_s = MAX_RETRY_WAIT_S + 1
    assert after(limited, has_next=False) is None


def test_nothing_is_tried_at_the_deadline() -> None:
    step = next_attempt(
        error(ProviderUnavailable),
        target=0,
        tries=2,
        has_next=True,
        fail_over_on=DEFAULT_CAUSES,
        most_tries=2,
        remaining_s=0.1,
        draw=0.5,
    )
    assert step is None


def test_what_is_left_of_the_time_is_shared_among_the_targets() -> None:
    assert call_limits(None, remaining_s=60.25, targets_left=2, is_stream=False) == CallLimits(total_s=20)
    assert call_limits(None, remaining_s=60.25, targets_left=0, is_stream=False) == CallLimits(total_s=60)


def test_a_stream_has_its_share_for_its_first_byte_and_then_all_that_is_left() -> None:
    assert call_limits(None, remaining_s=60.25, targets_left=1, is_stream=True) == CallLimits(
        total_s=60, first_byte_s=30
    )


def test_a_targets_own_times_come_first_within_the_deadline() -> None:
    asked = RouteTarget(model="a", timeout_s=7, first_byte_timeout_s=2, idle_timeout_s=1)
    assert call_limits(asked, remaining_s=60.25, targets_left=1, is_stream=True) == CallLimits(
        total_s=7, first_byte_s=2, idle_s=1
    )
    assert call_limits(asked, remaining_s=4.25, targets_left=1, is_stream=False).total_s == 4
