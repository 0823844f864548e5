"""Curves of what must stay flat as work grows: their figures in a JSON file, and a plot of each as SVG.

Knows how a curve is kept and drawn, not how it is measured. The plots take the colours of the page that shows them:
light, or dark if the reader's system is.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pygal
from msgspec import Struct
from pygal.style import Style

FIGURES = "scale.json"
WIDTH_PX, HEIGHT_PX = 760, 420
HEADROOM = 1.15
"""Of the vertical axis above the highest figure."""
_LIGHT = {
    "ink": "#1f2328",
    "faint": "#b6bec8",
    "aim": "#bc4c00",
    "1": "#0969da",
    "2": "#1a7f37",
    "3": "#8250df",
    "4": "#9a6700",
}
_DARK = {
    "ink": "#e6edf3",
    "faint": "#4d5761",
    "aim": "#f0883e",
    "1": "#58a6ff",
    "2": "#3fb950",
    "3": "#bc8cff",
    "4": "#d29922",
}
MAX_LINES = 4
_NOT_DRAWN = re.compile(r"<!--.*?-->|<script.*?</script>", re.DOTALL)
"""Comments with a date, and a script that an image does not run."""


class Curve(Struct, frozen=True, kw_only=True):
    """What was measured at growing sizes."""

    title: str
    size: str
    """What grows: "events in the log"."""
    unit: str
    """Of the figures."""
    sizes: list[int]
    lines: dict[str, list[float]]
    """A figure for each size, by what it is of; the first line is the one that the aim is for."""
    aim: str
    aims: list[float]
    """The aim in figures, one for each size."""
    loads: list[float]
    """The machine's load average, of a minute, at each size."""
    cores: int


def same_as_first(lines: Mapping[str, list[float]]) -> list[float]:
    """Return the aim of a curve that shall be flat: its first line's first figure, at every size."""
    first = next(iter(lines.values()))
    return [first[0]] * len(first)


def load_now() -> float:
    """Return the machine's load average of the last minute."""
    return os.getloadavg()[0]


def curve(
    title: str,
    size: str,
    unit: str,
    sizes: list[int],
    lines: dict[str, list[float]],
    aim: str,
    aims: list[float],
    loads: list[float],
) -> Curve:
    """Return a curve that was measured on this machine."""
    return Curve(
        title=title,
        size=size,
        unit=unit,
        sizes=sizes,
        lines={name: [float(f"{figure:.4g}") for figure in figures] for name, figures in lines.items()},
        aim=aim,
        aims=[float(f"{figure:.4g}") for figure in aims],
        loads=[round(load) for load in loads],
        cores=os.cpu_count() or 1,
    )


def read(folder: Path) -> dict[str, Curve]:
    """Return the curves that a folder has, by name."""
    file = folder / FIGURES
    return msgspec.json.decode(file.read_bytes(), type=dict[str, Curve]) if file.exists() else {}


def write(folder: Path, measured: Mapping[str, Curve]) -> None:
    """Put curves beside those that a folder has, each in the place of an older one, and draw them."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = read(folder) | dict(measured)
    text = msgspec.json.format(msgspec.json.encode(dict(sorted(kept.items()))), indent=1)
    (folder / FIGURES).write_bytes(text + b"\n")
    for name in measured:
        (folder / f"scale-{name}.svg").write_text(drawn(kept[name]) + "\n", encoding="utf-8")


def drawn(one: Curve) -> str:
    """Return a curve as SVG."""
    assert len(one.lines) <= MAX_LINES, "each line has a colour"
    highest = max(max(figures) for figures in (*one.lines.values(), one.aims))
    names = (*(str(number) for number in range(1, len(one.lines) + 1)), "aim")
    chart = pygal.Line(
        style=Style(
            background="transparent",
            plot_background="transparent",
            foreground=_colour("ink"),
            foreground_strong=_colour("ink"),
            foreground_subtle=_colour("faint"),
            guide_stroke_color=_colour("faint"),
            major_guide_stroke_color=_colour("faint"),
            colors=tuple(map(_colour, names)),
            font_family="system-ui, sans-serif",
            label_font_size=13,
            major_label_font_size=13,
            legend_font_size=14,
            title_font_size=17,
            guide_stroke_dasharray="2, 4",
            major_guide_stroke_dasharray="2, 4",
            stroke_width="2",
            stroke_opacity="1",
            opacity="1",
        ),
        css=["file://style.css", "file://graph.css", f"inline:{_colours()}"],
        js=[],
        no_prefix=True,
        disable_xml_declaration=True,
        title=_plain(f"{one.title}, {one.unit}"),
        x_title=one.size,
        width=WIDTH_PX,
        height=HEIGHT_PX,
        range=(0, highest * HEADROOM),
        legend_at_bottom=True,
        legend_at_bottom_columns=1,
        legend_box_size=10,
        truncate_legend=-1,
        show_y_guides=True,
        dots_size=3,
    )
    chart.x_labels = [f"{size:,}" for size in one.sizes]
    chart.y_labels_major_count = 0
    chart.value_formatter = lambda figure: f"{figure:,.4g}" if figure < 1_000 else f"{figure:,.0f}"
    for name, figures in one.lines.items():
        chart.add(_plain(name), figures)
    chart.add(f"aim: {one.aim}", one.aims, stroke_style={"dasharray": "7, 5"}, show_dots=False)
    return _NOT_DRAWN.sub("", chart.render(is_unicode=True))


def _plain(text: str) -> str:
    """Return a text without the marks that Markdown has for code."""
    return text.replace("`", "")


def table(one: Curve) -> str:
    """Return a curve as a table in Markdown."""
    head = f"| {one.size} | {' | '.join(f'{name}, {one.unit}' for name in one.lines)} | aim | load |"
    columns = zip(*one.lines.values(), one.aims, one.loads, strict=True)
    rows = [
        f"| {size:,} | {' | '.join(map(_written, figures))} |" for size, figures in zip(one.sizes, columns, strict=True)
    ]
    return "\n".join((head, "|---" * (len(one.lines) + 3) + "|", *rows))


def _written(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def _colour(name: str) -> str:
    """Return a colour for CSS; who does not know variables takes that of a light page."""
    return f"var(--{name if name.isalpha() else 'line-' + name}, {_LIGHT[name]})"


def _colours() -> str:
    def variables(colours: Mapping[str, str]) -> str:
        return "".join(f"--{name if name.isalpha() else 'line-' + name}:{hexa};" for name, hexa in colours.items())

    return f"svg{{{variables(_LIGHT)}}}@media (prefers-color-scheme: dark){{svg{{{variables(_DARK)}}}}}"
