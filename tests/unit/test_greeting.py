"""What `gateway up` says while it starts: on a terminal each step ends with its time, elsewhere it is a line."""

import io
from contextlib import redirect_stderr

import pytest

from cli.greeting import displayed_host, print_greeting, step
from cli.supervisor import say
from infra.settings import load_settings


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def lines(shown: Terminal) -> list[str]:
    """Return the lines as they are left on the screen."""
    return [line.rpartition("\r\x1b[K")[2] for line in shown.getvalue().rstrip("\n").split("\n")]


def test_a_step_ends_with_a_mark_and_its_time() -> None:
    with redirect_stderr(Terminal()) as terminal, step("starting NATS") as told:
        told(1, 2)
    assert terminal.getvalue().count("\n") == 1
    assert "… starting NATS, 1 of 2" in terminal.getvalue()
    assert lines(terminal)[0].startswith("  ✓ starting NATS, 0.")


def test_a_step_that_fails_says_so() -> None:
    with redirect_stderr(Terminal()) as terminal, pytest.raises(ValueError, match="no"), step("starting NATS"):
        raise ValueError("no")
    assert lines(terminal) == ["  ✗ starting NATS"]


def test_a_line_of_a_process_does_not_run_into_a_step() -> None:
    with redirect_stderr(Terminal()) as terminal, step("starting the API"):
        say("api-1", "something is amiss")
    assert lines(terminal)[0] == "api-1       | something is amiss"


@pytest.mark.parametrize(
    ("problem", "begins"),
    [
        (None, "The gateway runs at http://a:1  "),
        ("it is not ready", "The gateway does not answer yet, it is not ready. It will be at http://a:1  "),
    ],
)
def test_the_greeting_says_whether_the_gateway_runs(
    capsys: pytest.CaptureFixture[str], problem: str | None, begins: str
) -> None:
    print_greeting(load_settings({}), "http://a:1", "the-first-key", None, problem=problem)
    printed = capsys.readouterr().out
    assert printed.startswith(f"\n{begins}")
    assert "the-first-key" in printed


def test_elsewhere_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with step("starting NATS") as told:
        told(1, 2)
    assert capsys.readouterr().err == "up          | starting NATS\n"


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "localhost"), ("::", "localhost"), ("::1", "[::1]"), ("a", "a")]
)
def test_the_address_is_one_that_a_browser_here_can_open(host: str, shown: str) -> None:
    assert displayed_host(host) == shown
