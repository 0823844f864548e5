"""Writes lines to the operator's terminal. What callers and providers said in them cannot steer it."""

import sys

import click

from domain.names import printable

TAB = "\t"
CLEAR_LINE = "\r\x1b[K"
"""Goes to the start of the line and erases it (ECMA-48, EL)."""


def show(line: str, *, err: bool = False) -> None:
    """Print one line; control characters in it are escaped, line ends too."""
    click.echo(printable(line), err=err)


def show_json(line: str) -> None:
    """Print one line of JSON. On a terminal its control characters are escaped, elsewhere it is printed as it is."""
    if sys.stdout.isatty():
        show(line)
    else:
        click.echo(line)
