"""The scripts, the style and the icon of the pages, read once. Each address has the hash of what it leads to."""

import gzip
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePath

from litestar import Response, get
from litestar.params import FromPath
from msgspec import Struct

from api.requests import HttpRequest
from domain.errors import NotFound

STATIC_PATH = "/static"
HASH_CHARS = 12
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_COMPRESSION_LEVEL = 9


class Asset(Struct, frozen=True, kw_only=True):
    """A file that browsers load."""

    content: bytes
    packed: bytes
    media_type: str
    version: str
    """The beginning of its hash."""


@cache
def assets() -> Mapping[str, Asset]:
    """The files, by name."""
    found: dict[str, Asset] = {}
    for file in (files("api.dashboard") / "static").iterdir():
        media_type = _TYPES.get(PurePath(file.name).suffix)
        if media_type is not None:
            content = file.read_bytes()
            found[file.name] = Asset(
                content=content,
                packed=gzip.compress(content, _COMPRESSION_LEVEL, mtime=0),
                media_type=media_type,
                version=sha256(content).hexdigest()[:HASH_CHARS],
            )
    return found


def address_of(name: str) -> str:
    """Return the address of a static file."""
    return f"{STATIC_PATH}/{name}?v={assets()[name].version}"


@get(f"{STATIC_PATH}/{{name:str}}", include_in_schema=False)
async def serve_asset(request: HttpRequest, name: FromPath[str]) -> Response[bytes]:
    """Send a file, packed if the browser can unpack it."""
    asset = assets().get(name)
    if asset is None:
        raise NotFound("there is no such file here")
    is_named_by_hash = request.query_params.get("v") == asset.version
    headers = {
        "cache-control": _FOR_EVER if is_named_by_hash else _ASK_AGAIN,
        "etag": f'"{asset.version}"',
        "vary": "accept-encoding",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(b"", status_code=304, headers=headers)
    content = asset.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = asset.packed
        headers["content-encoding"] = "gzip"
    return Response(content, media_type=asset.media_type, headers=headers)
