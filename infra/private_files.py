"""Directories and files that belong to this process's user alone, and that nobody has planted.

A path may lead through a directory that others write to, such as `/tmp`: a link there would have us write, or change
the owner of, what its maker chose. No function here follows a link at the end of its path, and none changes a directory
that it was not given.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

PRIVATE = 0o700
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_READ_BYTES = 64 * 1024


class UnsafePathError(Exception):
    """A path is not ours alone. The message is one line: the path, and what is wrong with it."""


class Owner(Struct, frozen=True):
    """A user and its group, by their numbers."""

    uid: int
    gid: int


def current_owner() -> Owner:
    """Return the user of this process."""
    return Owner(os.geteuid(), os.getegid())


def check_data_directory(path: Path) -> Path:
    """Create the directory that a person chose, or check it. Return it without links.

    Links on the way are followed if this user or root made them. A directory of this user's that its group may write
    to, as some systems make them, is closed to the group; nothing else of what exists is changed. One of root's is
    taken as it is: an orchestrator makes volumes so.

    Raises:
        UnsafePathError: another user made a link on the way or owns the directory, or all users can write to it.
        OSError: it cannot be created.

    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow the links that are checked here
    for part in (*reversed(path.parents), path):
        try:
            found = part.lstat()
        except FileNotFoundError:
            break
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
            raise UnsafePathError(f"{part} is a link that another user made")
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.resolve()
    try:
        path.mkdir(PRIVATE)
    except FileExistsError:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise UnsafePathError(f"{path} is not a directory") from None
        if found.st_uid not in (os.geteuid(), 0):
            raise UnsafePathError(f"{path} belongs to another user") from None
        if found.st_mode & stat.S_IWOTH:
            raise UnsafePathError(f"{path} can be written by other users: `chmod o-w {path}`") from None
        if found.st_mode & stat.S_IWGRP and found.st_uid == os.geteuid():
            path.chmod(stat.S_IMODE(found.st_mode) & ~stat.S_IWGRP)
    return path


def make_private_directory(
    path: Path, *, owner: Owner | None = None, former: Owner | None = None, mode: int = PRIVATE
) -> None:
    """Create a directory of ours in a directory of ours, or make it private again.

    `owner` is who gets it; `former` may have it already.

    Raises:
        UnsafePathError: it is a link or no directory, or belongs to somebody else.
        OSError: it cannot be created.

    """
    us, owner = current_owner(), owner or current_owner()
    with suppress(FileExistsError):
        path.mkdir(PRIVATE)
    try:
        descriptor = os.open(path, _DIRECTORY)
    except OSError:
        raise UnsafePathError(f"{path} is not a directory that this user can open") from None
    try:
        found = os.fstat(descriptor)
        if found.st_uid not in {known.uid for known in (us, owner, former) if known is not None}:
            raise UnsafePathError(f"{path} belongs to another user")
        if (found.st_uid, found.st_gid) != (owner.uid, owner.gid):
            os.fchown(descriptor, owner.uid, owner.gid)
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def open_private(path: Path, flags: int) -> int:
    """Open a file of ours, or create it with mode 0600. Return its descriptor.

    Raises:
        UnsafePathError: it is a link or no file, or belongs to another user.
        OSError: it cannot be opened.

    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise UnsafePathError(f"{path} is a link: it must be a file") from None
        raise error from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        os.close(descriptor)
        raise UnsafePathError(f"{path} is not a file of this user's alone")
    return descriptor


def write_private(path: Path, content: bytes) -> None:
    """Write a file of ours. Raises as `open_private`."""
    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        file.write(content)


def read_private(path: Path) -> bytes | None:
    """Read a small file of ours; None if there is none. Raises as `open_private`."""
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_READ_BYTES)


def read_bounded(path: Path) -> bytes:
    """Read a small file that another user may have written. Follows no link.

    Raises:
        OSError: it cannot be read, or is a link.

    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        return file.read(MAX_READ_BYTES)
