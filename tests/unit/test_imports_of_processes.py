"""The processes import nothing that they do not use, and import all else before the first request."""

import subprocess
import sys

import pytest

IMPORTED = "; import sys; print('\\n'.join(sys.modules))"


def imported_by(program: str) -> set[str]:
    """Return the names of the modules that a program has imported."""
    done = subprocess.run([sys.executable, "-c", program + IMPORTED], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


@pytest.mark.parametrize("modules", ["cli.up", "cli.run_process, api.process, workers.process, projections.process"])
def test_no_process_imports_what_colours_traces(modules: str) -> None:
    imported = imported_by(
        f"from cli.plain_structlog import import_plain_structlog; import_plain_structlog(); import {modules}"
    )
    assert "structlog" in imported
    assert "rich" not in imported


def test_who_wants_what_colours_traces_can_still_import_it() -> None:
    program = "from cli.plain_structlog import import_plain_structlog; import_plain_structlog(); import rich"
    assert "rich" in imported_by(program)


def test_structlog_that_is_imported_already_stays_as_it_is() -> None:
    program = "import structlog; from cli.plain_structlog import import_plain_structlog; import_plain_structlog()"
    assert "rich" in imported_by(program)


def test_a_module_that_was_imported_before_stays_imported() -> None:
    program = "import rich; from cli.plain_structlog import import_plain_structlog; import_plain_structlog()"
    assert "rich" in imported_by(program)


def test_each_command_but_the_first_imports_structlog_in_this_way() -> None:
    program = "import click, cli.main; context = click.Context(cli.main.main); cli.main.main.get_command(context, '{}')"
    assert "structlog" in imported_by(program.format("worker"))
    assert "structlog" not in imported_by(program.format("up"))  # it starts the fork server first


def test_what_libraries_import_at_their_first_use_is_there_before_a_request() -> None:
    imported = imported_by("import api.process, api.app; api.app.prepare()")
    assert {"genai_prices.data", "uvicorn.lifespan.on", "anyio._backends._asyncio"} <= imported
