"""JSON from outside as typed values; what is wrong is told by the field's path, spelled as its sender spelled it."""

import re
from typing import TypeVar

import msgspec

from domain.errors import InvalidRequest

Shape = TypeVar("Shape")

_AT = re.compile(r" - at `\$(?:\.)?(?P<path>.*?)`$")
_NAMED = re.compile(r"(?:unknown|required) field `(?P<field>[^`]+)`")


def decoded(body: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[Shape]", *, inside: str = "") -> Shape:
    """The JSON, as the decoder's type; `inside` is the path of what is decoded, where it is a part of a body.

    Raises:
        InvalidRequest: names the field and what is wrong with it.

    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error, inside=inside) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None


def invalid(error: msgspec.ValidationError, *, inside: str = "") -> InvalidRequest:
    """What msgspec found wrong, with the field's path in front."""
    text = str(error)
    at = _AT.search(text)
    path = at["path"] if at else ""
    reason = text[: at.start()] if at else text
    named = _NAMED.search(reason)
    path = ".".join(part for part in (inside, path, named["field"] if named else "") if part)
    return InvalidRequest(f"`{path}`: {reason}" if path else reason, field=path or None)
