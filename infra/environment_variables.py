"""Reads environment variables into the fields of `Settings`. Defines no setting itself.

One annotation has a field's type, its bounds and the allowed values in words:
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
"""Parsers by type. msgspec parses the other types, and checks the bounds of all of them."""


class Variable(Struct, frozen=True):
    """An environment variable: its name, its meaning, and the values that it allows, in words."""

    name: str
    what: str
    allowed: str
    secret: bool = False
    """If true, no message shows the value."""
    parse: Callable[[str], object] | None = None
    """Prepares the text for `msgspec.convert`. None: the parser of the field's type."""


class Setting(Struct, frozen=True):
    """A field of a struct of settings, with the environment variable that sets it."""

    field: str
    variable: Variable
    type: Any
    default: str | None
    """The default as the environment writes it. None: the variable has no default."""

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
            raise ValueError("the value is empty or not allowed")
        return value


def settings_of(struct: type[Struct]) -> tuple[Setting, ...]:
    """List the fields of a struct of settings, each annotated with its `Variable`."""
    hints = get_type_hints(struct, include_extras=True)
    return tuple(_setting(field.name, hints[field.name], field.default) for field in fields(struct))


def _setting(field: str, hint: Any, default: object) -> Setting:
    (variable,) = (annotation for annotation in hint.__metadata__ if isinstance(annotation, Variable))
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
    """Read `yes` or `no`. Return None for anything else; no field accepts None."""
    return {"yes": True, "no": False}.get(text)


def without_final_slash(text: str) -> str:
    """Read an address without the slash at its end, because paths are appended to it."""
    return text.rstrip("/")


def addresses(text: str) -> list[str]:
    """Read addresses that are separated by commas."""
    return [without_final_slash(part.strip()) for part in text.split(",") if part.strip()]


def names(text: str) -> list[str]:
    """Read names that are separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def pairs(text: str) -> dict[str, str]:
    """Read `name=value` pairs that are separated by commas. A pair without a `=` gets an empty value."""
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): value.strip() for name, _, value in parts}


def is_token(text: str) -> bool:
    """Return whether a text can be a bearer token, such as the master key."""
    return len(text) >= MIN_TOKEN_CHARS and text.isprintable() and " " not in text


def token(text: str) -> str:
    """Read a token. Raises ValueError."""
    if not is_token(text):
        raise ValueError("too short, or with spaces or characters that cannot be printed")
    return text


def readable_file(text: str) -> Path:
    """Read the path of a file. Raises ValueError if this process cannot read the file."""
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("not a file that can be read")
    return path.resolve()
