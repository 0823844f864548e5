"""Images and files of clients' messages as canonical parts, by their addresses or their content."""

import base64
import re
from typing import Any

from domain.canonical.chat import CacheControl, File, FilePart, ImagePart, ImageUrl
from domain.decoding import converted
from domain.dialects.field_rules import not_translatable

DETAILS = ("auto", "low", "high")

_PDF_URL = re.compile(r"data:application/pdf[;,]", re.IGNORECASE)
_JPG_URL = re.compile(r"data:image/jpg(?=[;,])", re.IGNORECASE)
_BASE64_PDF = base64.b64encode(b"%PDF-1").decode()[:6]
_MEDIA_TYPES = {".pdf": "application/pdf", ".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv"}
_URL = ("data:", "https://", "http://")


def media_part(
    url: str,
    *,
    filename: str | None = None,
    detail: str | None = None,
    mark: CacheControl | None = None,
    is_file: bool = False,
) -> ImagePart | FilePart:
    """An image or a file. Some clients show every file as an image, or send an image as a file: the content says."""
    if url[:11].lower() == "data:image/":
        is_file = False
    elif is_file or _PDF_URL.match(url):
        return FilePart(file=File(url=url, filename=filename or None), cache_control=mark)
    shown = converted({"url": _JPG_URL.sub("data:image/jpeg", url, count=1)}, ImageUrl)
    known = next((one for one in DETAILS if one == detail), None)
    if known is not None:
        shown = ImageUrl(url=shown.url, detail=known)  # type: ignore[arg-type]
    return ImagePart(image_url=shown, cache_control=mark)


def file_url(data: str | None, filename: str | None, *others: str | None) -> str | None:
    """The address of a file, or its content as one: of `data`, which may be bare base64 (its type is then what its name
    or its beginning says), or of the first of the others that is an address. None: it has none.
    """
    given = (data or "").strip() or next((one for one in others if one and one.startswith(_URL)), None)
    if given is None or given.startswith(_URL):
        return given or None
    return f"data:{_media_type(given, filename)};base64,{given}"


def _media_type(data: str, filename: str | None) -> str:
    if data.startswith(_BASE64_PDF):
        return "application/pdf"
    ending = f".{(filename or '').rpartition('.')[2].lower()}"
    return _MEDIA_TYPES.get(ending, "application/pdf")


def source_url(source: dict[str, Any], path: str, media_type: str) -> str:
    """The address in a `source` of Anthropic's, or its content as one; `media_type` if it does not say its type.

    Raises:
        InvalidRequest: its content is not there.

    """
    if source.get("type") == "file" or (source.get("file_id") and not source.get("data")):
        raise not_translatable(f"{path}.file_id", "the file is at Anthropic: send its content in base64")
    url, data = source.get("url"), source.get("data")
    if isinstance(url, str) and url:
        return url
    if source.get("type") == "base64" and isinstance(data, str) and data:
        given = source.get("media_type")
        return f"data:{given if isinstance(given, str) and given else media_type};base64,{data}"
    raise not_translatable(path, "a source has `url`, or `data` in base64")
