"""Writes lines to the operator's terminal. What callers and providers said in them cannot steer it."""

import click

from domain.names import printable

TAB = "\t"


def show(line: str, *, err: bool = False) -> None:
    """Print one line; control characters in it are escaped, line ends too."""
    click.echo(printable(line), err=err)
