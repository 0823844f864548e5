"""Images and files in the canonical form, as the blocks that Anthropic's models are shown.

https://platform.claude.com/docs/en/build-with-claude/vision and …/pdf-support. The bytes say what an image is, not the
name that a client gives them: Anthropic refuses an image whose bytes and media type differ.
"""

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from domain.canonical.chat import FilePart, ImagePart
from domain.errors import InvalidRequest

_MAGIC = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi", "application/pdf"),
)
"""How the base64 of these begins, whatever follows."""
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = "application/pdf"
_TEXTS = re.compile(r"text/[\w.+-]+|application/(?:[\w.-]+\+)?(?:json|xml|yaml|x-yaml|toml|javascript|x-sh)")
_BY_ENDING = {
    "pdf": _PDF,
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "json": "application/json",
    "html": "text/html",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}
_UNKNOWN_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "image/*"})
_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
_BASE64_HEAD_CHARS = 16
_WHITESPACE = re.compile(r"\s")


def image_block(part: ImagePart, path: str) -> dict[str, Any]:
    """The block of an image, or of a PDF that came as one. `path`: of the part in the request.

    Raises:
        InvalidRequest: the model cannot be shown it; says what to send.

    """
    return _block(part.image_url.url, None, f"{path}.image_url.url")


def file_block(part: FilePart, path: str) -> dict[str, Any]:
    """The block of a file: a PDF, a text, or an image. Raises as `image_block`."""
    return _block(part.file.url, part.file.filename, f"{path}.file.url", is_file=True)


def _block(url: str, filename: str | None, field: str, *, is_file: bool = False) -> dict[str, Any]:
    if url[:7].lower() == "http://":  # Anthropic takes no such address; nearly every host answers both
        url = f"https://{url[7:]}"
    if url[:8].lower() == "https://":
        named = "document" if is_file or url.partition("?")[0].lower().endswith(".pdf") else "image"
        return _titled({"type": named, "source": {"type": "url", "url": url}}, filename)
    found = _DATA_URL.match(url)
    if found is None and any(url.startswith(head) for head, _ in _MAGIC):
        media_type, is_base64, data = "", True, url  # base64 alone, as some clients send it
    elif found is None:
        raise _refusal(field, "send an https address, or the content as a data: URL in base64")
    else:
        media_type = found["type"].strip().lower()
        is_base64 = ";base64" in found["parameters"].lower()
        data = url[found.end() :]
    return _of_content(_type_of(media_type, data, filename), data, filename, field, is_base64=is_base64)


def _type_of(media_type: str, data: str, filename: str | None) -> str:
    """What the content is: by its first bytes, else as it says, else by the ending of its name."""
    head = data[:_BASE64_HEAD_CHARS].lstrip()
    by_magic = next((kind for start, kind in _MAGIC if head.startswith(start)), None)
    if by_magic is not None:
        return by_magic
    if media_type in _UNKNOWN_TYPES:
        return _BY_ENDING.get((filename or "").rpartition(".")[2].lower(), media_type)
    return {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "application/x-pdf": _PDF}.get(
        media_type, media_type
    )


def _of_content(kind: str, data: str, filename: str | None, field: str, *, is_base64: bool) -> dict[str, Any]:
    if kind in _IMAGES or kind == _PDF:
        if not is_base64:
            raise _refusal(field, f"the content of an {kind} must be in base64")
        data = _WHITESPACE.sub("", data) if _WHITESPACE.search(data) else data
        if not data:
            raise _refusal(field, "it is empty")
        source = {"type": "base64", "media_type": kind, "data": data}
        return _titled({"type": "document" if kind == _PDF else "image", "source": source}, filename)
    if _TEXTS.fullmatch(kind):
        text = _text(data, field, is_base64=is_base64)
        if not text.strip():
            raise _refusal(field, "the text is empty")
        source = {"type": "text", "media_type": "text/plain", "data": text}
        return _titled({"type": "document", "source": source}, filename)
    if kind.startswith("image/"):
        raise _refusal(field, f"no image of type {kind!r} can be shown: send a PNG, JPEG, GIF or WebP")
    raise _refusal(field, f"no file of type {kind!r} can be shown: send a PDF, or its text")


def _text(data: str, field: str, *, is_base64: bool) -> str:
    try:
        content = base64.b64decode(data) if is_base64 else unquote_to_bytes(data)
        return content.decode()
    except (binascii.Error, ValueError):
        raise _refusal(field, "the text must be in UTF-8, and in base64 if it says so") from None


def _titled(block: dict[str, Any], filename: str | None) -> dict[str, Any]:
    return block | {"title": filename} if filename and block["type"] == "document" else block


def _refusal(field: str, advice: str) -> InvalidRequest:
    return InvalidRequest(f"`{field}` cannot be shown to this model: {advice}", field=field)
