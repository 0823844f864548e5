"""Bounds texts from providers before they are stored or sent on.

Any server may be a provider. PostgreSQL stores no NUL in a text, and no index holds a name of megabytes: one such text
would stop every reader of the log.
"""

MAX_NAME_CHARS = 256
MAX_MESSAGE_CHARS = 2_000


def sanitize_identifier(text: str) -> str:
    """Bound an id, a model's name or an error type."""
    return text[:MAX_NAME_CHARS].replace("\x00", "")


def sanitize_message(text: str) -> str:
    """Bound a message for people."""
    return text[:MAX_MESSAGE_CHARS].replace("\x00", "")
