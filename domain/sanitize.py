"""Bounds texts from providers before they are stored or sent on.

Any server may be a provider. PostgreSQL stores no NUL in a text, and no index holds a name of megabytes: one such text
would stop every reader of the log. What comes from a provider is shown as names are (`domain/names.py`).
"""

from domain.names import MAX_NAME_CHARS, without_special

MAX_MESSAGE_CHARS = 2_000


def sanitize_identifier(text: str) -> str:
    """Bound an id, a model's name or an error type."""
    bounded = text[:MAX_NAME_CHARS]
    return bounded if bounded.isprintable() else without_special(bounded)


def sanitize_message(text: str) -> str:
    """Bound a message for people."""
    return without_special(text[:MAX_MESSAGE_CHARS], keep="\n\t")
