"""Crash points: off unless the environment names a file, and then one death for each time that the file is written."""

import ast
from pathlib import Path

import pytest

from infra.crash_points import POINTS, REACHED_SUFFIX, VARIABLE, CrashPoints, reach, switch_of
from tests.support.crash_matrix import BATCHES, JOB, SWEPT, WITHDRAWN

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "cli", "infra", "projections", "workers")


class Process:
    """Counts its deaths instead of dying."""

    def __init__(self, file: Path) -> None:
        self.deaths = 0
        self.points = CrashPoints(file, self._die)

    def _die(self) -> None:
        self.deaths += 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "armed"


def test_points_are_off_without_the_variable(file: Path) -> None:
    assert switch_of({}) is reach, "these tests run without it"
    assert switch_of({VARIABLE: ""}) is reach
    assert switch_of({VARIABLE: str(file)}) is not reach


def test_a_point_that_is_not_armed_does_nothing(file: Path) -> None:
    process = Process(file)
    process.points.reach("api.after_admit")
    file.write_text("worker.after_claim")
    process.points.reach("api.after_admit")
    assert process.deaths == 0
    assert file.exists()


def test_one_process_dies_once(file: Path) -> None:
    first, second = Process(file), Process(file)
    file.write_text("api.after_admit")
    for process in (first, second, first):
        process.points.reach("api.after_admit")
    assert (first.deaths, second.deaths) == (1, 0)
    assert file.with_name(file.name + REACHED_SUFFIX).read_text() == "api.after_admit"


def test_the_nth_time_is_counted_from_the_arming(file: Path) -> None:
    process = Process(file)
    for _ in range(3):
        process.points.reach("worker.after_part")
    file.write_text("worker.after_part 3")
    deaths = []
    for _ in range(4):
        process.points.reach("worker.after_part")
        deaths.append(process.deaths)
    assert deaths == [0, 0, 1, 1]


def test_an_unknown_point_is_a_mistake(file: Path) -> None:
    with pytest.raises(AssertionError, match="no crash point"):
        Process(file).points.reach("api.nowhere")


def test_every_point_of_the_code_is_described() -> None:
    reached = {
        node.args[0].value
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "reach"
        and isinstance(node.args[0], ast.Constant)
    }
    assert reached == POINTS.keys()


def test_a_process_dies_at_every_point_in_the_matrix() -> None:
    cases = [case for batch in (*BATCHES.values(), SWEPT, JOB) for case in batch]
    assert {point for case in cases for point in (case.point, case.then) if point} | {WITHDRAWN} == POINTS.keys()
