"""Files of this user alone: no link is followed, nothing of others is changed."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.private_files import (
    UnsafePathError,
    check_data_directory,
    make_private_directory,
    open_private,
    read_bounded,
    read_private,
    write_private,
)

ANOTHER_USER = 54_321


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_data_directory_is_closed_to_others_and_those_above_stay_as_they_are(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir(0o755)
    made = check_data_directory(above / "data")
    assert (mode(made), mode(above)) == (0o700, 0o755)


def test_a_data_directory_that_others_can_write_to_is_refused_and_not_changed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(UnsafePathError, match="can be written by other users"):
        check_data_directory(shared)
    assert mode(shared) == 0o1777


def test_a_data_directory_that_its_group_could_write_to_is_closed_to_the_group(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    ours.chmod(0o2775)
    assert check_data_directory(ours) == ours
    assert mode(ours) == 0o2755


def test_a_data_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o755)
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(UnsafePathError, match="belongs to another user"):
        check_data_directory(theirs)


def test_a_link_of_this_user_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(0o700)
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    assert check_data_directory(tmp_path / "data") == (tmp_path / "disk").resolve()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to another user")
def test_what_another_user_planted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir(0o700)
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "victim")
    os.chown(link, ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
    for path in (link, link / "below"):
        with pytest.raises(UnsafePathError, match="a link that another user made"):
            check_data_directory(path)
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o700)
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    for refuse in (check_data_directory, make_private_directory):
        with pytest.raises(UnsafePathError, match="belongs to another user"):
            refuse(theirs)
    assert theirs.stat().st_uid == ANOTHER_USER
    assert list((tmp_path / "victim").iterdir()) == []


def test_a_private_directory_is_made_private_again(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(0o755)
    make_private_directory(tmp_path / "ours")
    assert mode(tmp_path / "ours") == 0o700


def test_no_link_is_followed_to_a_directory(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir(0o755)
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(UnsafePathError):
        make_private_directory(tmp_path / "link")
    assert mode(tmp_path / "victim") == 0o755


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to], ids=["symbolic", "hard"])
def test_no_link_is_followed_to_a_file(make: Callable[[Path, Path], None], tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"kept")
    make(link, victim)
    with pytest.raises(UnsafePathError):
        write_private(link, b"ours")
    with pytest.raises(UnsafePathError):
        read_private(link)
    assert victim.read_bytes() == b"kept"


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "made")
    with pytest.raises(UnsafePathError):
        write_private(tmp_path / "link", b"ours")
    with pytest.raises(OSError, match="link"):
        read_bounded(tmp_path / "link")
    assert not (tmp_path / "made").exists()


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafePathError):
        open_private(tmp_path / "pipe", os.O_RDONLY)


def test_what_is_written_is_read_again_by_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert read_private(path) is None
    write_private(path, b"longer than what follows")
    path.chmod(0o644)
    write_private(path, b"text")
    assert (read_private(path), mode(path)) == (b"text", 0o600)
