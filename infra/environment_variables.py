"""Reads environment variables into the fields of `Settings`. Defines no setting itself.

One annotation has a field's type, its bounds and the allowed values in words:
`Annotated[int, Meta(ge=1, le=64), Variable("GATEWAY_WORKERS", "how many run", "a whole number, 1 to 64")]`.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct
from msgspec.structs import fields

MIN_TOKEN_CHARS = 16
MAX_SECRET_FILE_BYTES = 64 * 1024
FILE_SUFFIX = "_FILE"
"""Added to the name of a secret's variable: the variable with the path of a file that has the secret."""

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

    @property
    def file_name(self) -> str | None:
        """The variable with the path of a file that has the value. None: the value is no secret."""
        return f"{self.name}{FILE_SUFFIX}" if self.secret else None


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


class SecretFileError(Exception):
    """A file that should have a secret cannot be read, or the secret is set twice. The message shows no secret."""


def text_of(variable: Variable, environ: Mapping[str, str]) -> str | None:
    """Return a variable's text, or that of its file without the line ends around it. None if it is unset or empty.

    Raises:
        SecretFileError: both are set, or the file cannot be read.

    """
    text = environ.get(variable.name) or None
    path = environ.get(variable.file_name) or None if variable.file_name is not None else None
    if path is None:
        return text
    if text is not None:
        raise SecretFileError(f"{variable.name} and {variable.file_name} are both set: unset one of them")
    try:
        with Path(path).open(encoding="utf-8") as file:
            read = file.read(MAX_SECRET_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SecretFileError(f"{variable.file_name} is {path!r}: {reason}") from None
    if len(read) > MAX_SECRET_FILE_BYTES:
        raise SecretFileError(f"{variable.file_name} is {path!r}: it has more than {MAX_SECRET_FILE_BYTES} characters")
    return read.strip() or None


def settings_of(struct: type[Struct]) -> tuple[Setting, ...]:
    """List the fields of a struct of settings, each annotated with its `Variable`."""
    hints = get_type_hints(struct, include_extras=True)
    return tuple(_setting(field.name, hints[field.name], field.default) for field in fields(struct))


def _setting(field: str, hint: Any, default: object) -> Setting:
    (variable,) = (annotation for annotation in hint.__metadata__ if isinstance(annotation, Variable))
    return Setting(field, variable, hint, _written(default, variable))


def _written(default: object, variable: Variable) -> str | None:
    match default:
        case bool():
            true, false = ("true", "false") if variable.parse is true_or_false else ("yes", "no")
            return true if default else false
        case float():
            return f"{default:g}"
        case int() | str() | Path():
            return str(default)
        case _:
            return None


def yes_or_no(text: str) -> bool | None:
    """Read `yes` or `no`. Return None for anything else; no field accepts None."""
    return {"yes": True, "no": False}.get(text)


def true_or_false(text: str) -> bool | None:
    """Read `true` or `false` in any case, as OpenTelemetry writes them; None for anything else."""
    return {"true": True, "false": False}.get(text.strip().lower())


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


def certificates_file(text: str) -> Path:
    """Read the path of a file with certificates in PEM. Raises ValueError."""
    path = readable_file(text)
    try:
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError as error:
        raise ValueError("it has no certificate") from error
    return path
