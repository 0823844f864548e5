"""The pages are true: generated pages match their source, and every path and command on a page exists."""

import re
from pathlib import Path

import click
import pytest

from cli.main import main
from docs.generate import REFERENCE, pages
from infra.settings import SETTINGS

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

_PATH = re.compile(r"`([\w.\-]+/[\w./\-]*|[\w\-]+\.(?:md|py|toml|yaml|sql))`")
_LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")
_COMMAND = re.compile(r"^(?:uv run |.*/uv run |pipx run uv run )?gateway ((?:[a-z]+ ?)+)", re.MULTILINE)
_TARGET = re.compile(r"`make ([a-z]+)`|^make ([a-z]+)", re.MULTILINE)
_EXAMPLE = re.compile(r"(NAME|provider/model|/usr/|[a-z]/\*|api/v1)")


@pytest.mark.parametrize("name", sorted(pages()))
def test_generated_page_matches_the_code(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == pages()[name], "run `make docs`"


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_every_path_that_a_page_names_exists(page: str) -> None:
    named = {path for path in _PATH.findall(TEXTS[page]) if not _EXAMPLE.search(path)} | set(_LINK.findall(TEXTS[page]))
    missing = {path for path in named if not (ROOT / path).exists() and not ((ROOT / page).parent / path).exists()}
    assert missing <= {"uv.lock", "http/protobuf", "gen_ai_latest_experimental/dup"}  # the latter are values


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_every_command_that_a_page_shows_exists(page: str) -> None:
    context = click.Context(main)
    for shown in _COMMAND.findall(TEXTS[page]):
        command: click.Command | None = main
        for word in shown.split():
            assert isinstance(command, click.Group)
            command = command.get_command(context, word)
            assert command is not None, f"gateway {shown}"
            if not isinstance(command, click.Group):
                break
    for targets in _TARGET.findall(TEXTS[page]):
        assert set(targets) - {""} <= TARGETS


def test_the_example_environment_has_every_setting() -> None:
    named = re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(setting.variable.name for setting in SETTINGS)


def test_the_pages_that_a_newcomer_needs_are_looked_at() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/how-to/run-in-production.md"} <= set(TEXTS)
    assert _COMMAND.findall(TEXTS["README.md"])
    assert _PATH.findall(TEXTS["docs/architecture.md"])
