"""The system's limits of open files decide how many connections a process may have."""

import resource
from collections.abc import Callable

import pytest
import structlog

from infra.open_files import allow_connections
from workers.process import connections_of

MACOS = 10_240
"""More open files macOS refuses, though its hard limit is none."""
SetLimits = Callable[..., list[int]]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SetLimits:
    """Take the place of the system: it has these limits, and refuses more than `most`.

    Returns the list of what was set.
    """

    def set_limits(soft: int, hard: int, most: int = 2**31) -> list[int]:
        limits, were_set = [soft, hard], list[int]()

        def set_limit(_: int, wanted: tuple[int, int]) -> None:
            if wanted[0] > most:
                raise ValueError("not allowed")
            limits[0] = wanted[0]
            were_set.append(wanted[0])

        monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
        monkeypatch.setattr(resource, "setrlimit", set_limit)
        return were_set

    return set_limits


@pytest.mark.parametrize(
    ("soft", "hard", "most", "wanted", "allowed", "was_set"),
    [
        pytest.param(700, 800, 800, 400, 400, [], id="it fits"),
        pytest.param(300, 800, 800, 400, 400, [656], id="the soft limit is raised no further than it must be"),
        pytest.param(300, 800, 800, 5_000, 544, [800], id="the hard limit allows fewer"),
        pytest.param(200, 200, 200, 5_000, 1, [200], id="one at least"),
        pytest.param(256, resource.RLIM_INFINITY, 2**31, 5_000, 5_000, [5_256], id="no hard limit"),
        pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, 2**31, 5_000, 5_000, [], id="no limit"),
        pytest.param(256, resource.RLIM_INFINITY, MACOS, 10_000, MACOS - 256, [MACOS], id="less than the system says"),
        pytest.param(300, 800, 300, 5_000, 44, [], id="the system allows nothing"),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_the_system_allows(
    system: SetLimits, soft: int, hard: int, most: int, wanted: int, allowed: int, was_set: list[int]
) -> None:
    were_set = system(soft, hard, most)
    assert allow_connections(wanted) == allowed
    assert were_set == was_set


def test_a_workers_session_may_have_a_connection_for_every_call(system: SetLimits) -> None:
    were_set = system(1_024, 1_048_576)
    assert connections_of(512) == 1_024
    assert were_set == [2_304]


def test_a_worker_says_if_its_calls_wait_for_connections(system: SetLimits) -> None:
    system(1_024, 1_024)
    with structlog.testing.capture_logs() as lines:
        assert connections_of(512) == 768
    assert [line["event"] for line in lines] == ["few_open_files"]
