"""What a provider says in words, made fit to be written down and passed on.

A provider may be anybody's. PostgreSQL holds no NUL in a text, and no index holds a name of megabytes: what is written
as it came would stop whoever reads the log.
"""

MAX_NAME_CHARS = 256
MAX_MESSAGE_CHARS = 2_000


def sanitize_identifier(text: str) -> str:
    """An id, a model's name, a vendor's word for something."""
    return _fit(text, MAX_NAME_CHARS)


def sanitize_message(text: str) -> str:
    """What is told to people."""
    return _fit(text, MAX_MESSAGE_CHARS)


def _fit(text: str, most_chars: int) -> str:
    return text[:most_chars].replace("\x00", "")
