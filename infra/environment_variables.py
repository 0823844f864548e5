"""Reads environment variables into the fields of `Settings`. Knows no setting.

A field's type, its bounds and what is allowed stand in one annotation:
`Annotated[int, Meta(ge=1, le=64), Variable("GATEWAY_WORKERS", "how many run", "a whole number, 1 to 64")]`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct
from msgspec.structs import fields

MIN_TOKEN_CHARS = 16

_PARSERS: dict[Any, Callable[[str], object]] = {int: int, float: float, Path: Path}
"""The reader of a text, by type. msgspec reads the other types, and checks the bounds of all."""


class Variable(Struct, frozen=True):
    """An environment variable: its name, its meaning, and the values that it allows, in words."""

    name: str
    what: str
    allowed: str
    secret: bool = False
    """No message shows its value."""
    parse: Callable[[str], object] | None = None
    """Prepares the text for `msgspec.convert`; None: by the field's type."""


class Setting(Struct, frozen=True):
    """A field of a struct of settings, with the environment variable that sets it."""

    field: str
    variable: Variable
    type: Any
    default: str | None
    """As it is written in the environment; None: the variable has no default of its own."""

    def read(self, text: str) -> Any:
        """Return the field's value.

        Raises:
            ValueError: the text is not allowed.

        """
        parse = self.variable.parse or _PARSERS.get(get_args(self.type)[0], str)
        try:
            value = msgspec.convert(parse(text), self.type, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        if value is None:
            raise ValueError("a variable that is set has a value")
        return value


def settings_of(struct: type[Struct]) -> tuple[Setting, ...]:
    """List the fields of a struct of settings, each annotated with its `Variable`."""
    hints = get_type_hints(struct, include_extras=True)
    return tuple(_setting(one.name, hints[one.name], one.default) for one in fields(struct))


def _setting(field: str, hint: Any, default: object) -> Setting:
    (variable,) = (one for one in hint.__metadata__ if isinstance(one, Variable))
    return Setting(field, variable, hint, _written(default))


def _written(default: object) -> str | None:
    match default:
        case bool():
            return "yes" if default else "no"
        case float():
            return f"{default:g}"
        case int() | str() | Path():
            return str(default)
        case _:
            return None


def yes_or_no(text: str) -> bool | None:
    """Read `yes` or `no`; None, which no field takes, for anything else."""
    return {"yes": True, "no": False}.get(text)


def without_final_slash(text: str) -> str:
    """Read an address, to which paths are appended."""
    return text.rstrip("/")


def addresses(text: str) -> list[str]:
    """Read addresses with commas between."""
    return [without_final_slash(part.strip()) for part in text.split(",") if part.strip()]


def pairs(text: str) -> dict[str, str]:
    """Read `name=value` pairs with commas between; a pair without a `=` gets an empty value."""
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): value.strip() for name, _, value in parts}


def is_token(text: str) -> bool:
    """Return whether a text may be a master key or another token that is presented as `Bearer`."""
    return len(text) >= MIN_TOKEN_CHARS and text.isprintable() and " " not in text


def token(text: str) -> str:
    """Read a token. Raises ValueError."""
    if not is_token(text):
        raise ValueError("too short, or with spaces or characters that cannot be printed")
    return text


def readable_file(text: str) -> Path:
    """Read the path of a file that this process can open. Raises ValueError."""
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("not a file that can be read")
    return path.resolve()
