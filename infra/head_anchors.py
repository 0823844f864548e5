"""Copies of the signed heads outside the database, where its owner cannot change them: file, webhook, object store.

Each head commits to all of the log before it, so a copy that was missed costs nothing once the next one is made.
"""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import aiohttp

from domain.log_head import SignedHead, decode_head, encode_head
from infra.object_store import ObjectStore, ObjectStoreError

WEBHOOK_TIMEOUT_S = 10.0
MAX_LINE_BYTES = 16 * 1024
_OPEN = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class AnchorFailedError(Exception):
    """A copy could not be made. The message says why, without a secret."""


class Anchor(Protocol):
    """A place for copies of heads."""

    name: str

    async def keep(self, head: SignedHead) -> None:
        """Keep a copy of a new head.

        Raises:
            AnchorFailedError: it is not kept.

        """


class AnchorFile:
    """A file to which each head is added as a line of JSON, and synced to the disk."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def newest(self) -> SignedHead | None:
        """Return the head with the highest sequence in the file; None if it has none.

        Raises:
            AnchorFailedError: the file cannot be read.

        """
        try:
            return max(read_anchors(self._path).heads, key=lambda head: head.sequence, default=None)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AnchorFailedError(f"cannot read {self._path}: {error.strerror}") from error

    async def keep(self, head: SignedHead) -> None:
        """Add a head, and return once it is on the disk. Raises as `Anchor.keep`."""
        try:
            await asyncio.to_thread(self._add, encode_head(head) + b"\n")
        except OSError as error:
            raise AnchorFailedError(f"cannot write to {self._path}: {error.strerror}") from error

    def _add(self, line: bytes) -> None:
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | _OPEN, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # the last write was cut: what is left of it is a line that nobody can read
            view = memoryview(line)
            while view:
                view = view[file.write(view) :]
            os.fsync(descriptor)
        if is_new:
            _sync_directory(self._path.parent)


class AnchorWebhook:
    """An address of the operator's that is sent the newest head."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    async def keep(self, head: SignedHead) -> None:
        """Send a head. Raises as `Anchor.keep`."""
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.post(
                    self._url,
                    data=encode_head(head),
                    headers={"content-type": "application/json"},
                    allow_redirects=False,
                ) as answer,
            ):
                if answer.status not in range(200, 300):
                    raise AnchorFailedError(f"the webhook answered {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AnchorFailedError(f"the webhook cannot be reached: {type(error).__name__}") from error


class AnchorStore:
    """An object store that is given an object for each head, named by its sequence. None is ever replaced."""

    name = "object store"

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def keep(self, head: SignedHead) -> None:
        """Store a head. Raises as `Anchor.keep`."""
        try:
            await self._store.put(f"{head.sequence:012d}.json", encode_head(head) + b"\n", datetime.now(UTC))
        except ObjectStoreError as error:
            raise AnchorFailedError(str(error)) from error


class ReadAnchors(NamedTuple):
    """What a file of anchors has."""

    heads: list[SignedHead]
    unreadable: int
    """Lines that are no head, such as one whose write was cut."""


def read_anchors(path: Path) -> ReadAnchors:
    """Read the heads of a file.

    Raises:
        OSError: the file cannot be read.

    """
    heads, unreadable = [], 0
    for line in _lines(path):
        try:
            heads.append(decode_head(line))
        except ValueError:
            unreadable += 1
    return ReadAnchors(heads, unreadable)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            if line.strip():
                yield line.strip()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
