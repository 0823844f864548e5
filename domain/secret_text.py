"""Tells which texts are worth hiding. Pure.

Local servers take any word as a key, and an answer or a log line may well have that word.
"""

MIN_SECRET_CHARS = 8
"""What is shorter is no secret."""
MIN_WORD_CHARS = 16
"""Nor is what is shorter than this and has letters alone, or digits alone, such as `placeholder`."""


def is_secret(text: str) -> bool:
    """Return whether a text is worth hiding."""
    return len(text) >= (MIN_WORD_CHARS if text.isalpha() or text.isdigit() else MIN_SECRET_CHARS)
