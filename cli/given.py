"""Reads what administrative commands are given.

The project, a provider's key from the environment, and fields by the API's rules.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import msgspec

from cli.processes import fail
from domain.decoding import invalid

Shape = TypeVar("Shape")
Command = TypeVar("Command", bound=Callable[..., Any])


def of_project(whose: str, default: str) -> Callable[[Command], Command]:
    """Return the option `--project` of a command. `whose`: what it means with one; `default`: without."""
    return click.option("--project", help=f"Id of a project: {whose}. [default: {default}]")


def key_in(variable: str) -> str:
    """Return the provider's key in an environment variable. Exits with code 2 if there is none."""
    key = os.environ.get(variable)
    if not key:
        fail(f"the environment variable {variable} is not set")
    return key


def checked(given: Mapping[str, Any], shape: type[Shape], *, strict: bool = True) -> Shape:
    """Return what was given as a body of the API. Exits with code 2 if a field is wrong, and names it.

    `strict` False: numbers may be text.
    """
    try:
        return msgspec.convert(given, shape, strict=strict)
    except msgspec.ValidationError as error:
        fail(invalid(error, shape).message)
