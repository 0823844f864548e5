"""Bounds texts from providers before they are stored or sent on.

Any server may be a provider. PostgreSQL stores no NUL in a text, and no index holds a name of megabytes: one such text
would stop every reader of the log.
"""

MAX_NAME_CHARS = 256
MAX_MESSAGE_CHARS = 2_000


def sanitize_identifier(text: str) -> str:
    """Bound an id, a model's name or an error type."""
    return _fit(text, MAX_NAME_CHARS)


def sanitize_message(text: str) -> str:
    """Bound a message for people."""
    return _fit(text, MAX_MESSAGE_CHARS)


def _fit(text: str, most_chars: int) -> str:
    return text[:most_chars].replace("\x00", "")
