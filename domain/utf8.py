"""The length of a text in UTF-8."""


def utf8_length(text: str | None) -> int:
    """Count the bytes; None has none. Does not encode a text that is ASCII."""
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())
