"""The plots of `make bench-scale` have every line, the aim, and colours for light and dark pages."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.curves import curve, drawn, read, same_as_first, table, write

LINES = {"all processes": [900.0, 930.0], "PostgreSQL": [200.0, 210.0]}
CURVE = curve(
    "A miss", "events in the log", "CPU µs", [0, 1_000_000], LINES, "as at first", same_as_first(LINES), [3, 4]
)


@pytest.fixture(scope="module")
def picture() -> str:
    return drawn(CURVE)


def test_a_plot_names_its_lines_its_aim_and_its_sizes(picture: str) -> None:
    texts = {node.text for node in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")}
    assert {"all processes", "PostgreSQL", "aim: as at first", "0", "1,000,000"} <= texts


def test_a_plot_has_colours_for_dark_pages_and_runs_and_loads_nothing(picture: str) -> None:
    assert "prefers-color-scheme:dark" in picture
    assert "<script" not in picture
    assert "<!--" not in picture


def test_a_curve_takes_the_place_of_its_older_one_and_leaves_the_others(tmp_path: Path) -> None:
    write(tmp_path, {"miss": CURVE, "memory": CURVE})
    newer = curve("Newer", "requests", "MB", [1], {"API": [1.0]}, "2", [2.0], [3])
    write(tmp_path, {"memory": newer})
    assert read(tmp_path) == {"miss": CURVE, "memory": newer}
    assert (tmp_path / "scale-miss.svg").exists()


def test_a_flat_curve_has_its_first_figure_as_its_aim() -> None:
    assert CURVE.aims == [900.0, 900.0]
    assert "| 1,000,000 | 930 | 210 | 900 | 4 |" in table(CURVE)
