import errno
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01.files import TEMP_SUFFIX, atomic_write, ensure_directory, remove_file


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_writing_reports_whether_anything_changed(tmp_path: Path):
    path = tmp_path / "a"
    assert atomic_write(path, "one", mode=0o644)
    assert not atomic_write(path, b"one", mode=0o644)
    assert atomic_write(path, "two", mode=0o644)
    assert path.read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_mode_and_owner_alone_are_a_change(tmp_path: Path):
    path = tmp_path / "a"
    atomic_write(path, "one", mode=0o600)
    inode = path.stat().st_ino
    assert atomic_write(path, "one", mode=0o640)
    assert mode(path) == 0o640
    assert atomic_write(path, "one", mode=0o640, uid=12345, gid=23456)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)
    assert path.stat().st_ino == inode
    assert atomic_write(path, "two", mode=0o640)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_umask_does_not_matter(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "file", "x", mode=0o644)
        ensure_directory(tmp_path / "one" / "two", mode=0o750)
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o644
    assert mode(tmp_path / "one") == 0o755
    assert mode(tmp_path / "one" / "two") == 0o750


def test_a_link_is_replaced_and_not_followed(tmp_path: Path):
    other = tmp_path / "other"
    other.write_text("keep")
    path = tmp_path / "link"
    path.symlink_to(other)
    assert atomic_write(path, "new", mode=0o644)
    assert other.read_text() == "keep"
    assert not path.is_symlink()


def test_an_error_names_the_file_that_was_meant(tmp_path: Path, small_disk: Path):
    for path, number in ((tmp_path / "none" / "x", errno.ENOENT), (small_disk / "large", errno.ENOSPC)):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            atomic_write(path, "x" * 100_000, mode=0o644)
        assert (caught.value.errno, caught.value.filename, caught.value.filename2) == (number, str(path), None)


def test_a_directory_in_the_way_is_an_error(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        atomic_write(tmp_path, "x", mode=0o644)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        ensure_directory(tmp_path / "file", mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(NotADirectoryError):
        ensure_directory(tmp_path / "link", mode=0o755)


def test_directories_report_whether_anything_changed(tmp_path: Path):
    assert ensure_directory(tmp_path / "d", mode=0o700)
    assert not ensure_directory(tmp_path / "d", mode=0o700)
    assert ensure_directory(tmp_path / "d", mode=0o755, uid=1, gid=1)
    assert not ensure_directory(tmp_path / "d", mode=0o755, uid=1, gid=1)


def test_removing(tmp_path: Path):
    (tmp_path / "a").touch()
    assert remove_file(tmp_path / "a")
    assert not remove_file(tmp_path / "a")


def test_a_full_disk_leaves_the_old_file(small_disk: Path):
    path = small_disk / "file"
    atomic_write(path, "old", mode=0o644)
    with pytest.raises(OSError, match="No space left") as caught:
        atomic_write(path, b"x" * 1_000_000, mode=0o644)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert [entry.name for entry in small_disk.iterdir()] == ["file"]
    assert atomic_write(path, "new", mode=0o644)


def test_readers_see_whole_files_only(tmp_path: Path):
    path = tmp_path / "file"
    texts = {letter * 200_000 for letter in "ab"}
    atomic_write(path, "a" * 200_000, mode=0o644)
    writers = [
        threading.Thread(target=lambda: [atomic_write(path, text, mode=0o644) for _ in range(20) for text in texts])
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in texts
    assert not list(tmp_path.glob(f".*{TEMP_SUFFIX}"))


def test_a_removed_file_takes_what_killed_writes_left_with_it(tmp_path):
    target = tmp_path / "settings[1].json"
    others = [tmp_path / f".{name}.0123456789abcdef{TEMP_SUFFIX}" for name in ("settings1.json", "other")]
    left = tmp_path / f".{target.name}.0123456789abcdef{TEMP_SUFFIX}"
    for path in (target, left, *others):
        path.touch()
    assert remove_file(target)
    assert sorted(tmp_path.iterdir()) == sorted(others)
    left.touch()
    assert not remove_file(target)
    assert sorted(tmp_path.iterdir()) == sorted(others)
