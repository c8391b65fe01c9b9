"""Our block in authorized_keys, and what stands in a home instead of the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ds01.users import keys
from ds01.users.identity import UnsafeError
from ds01.users.keys import BEGIN, END, block, merge
from tests.unit.users.people_keys import key

OWN = "ssh-ed25519 AAAAown me@home"


def test_foreign_keys_stay():
    first = merge(f"{OWN}\n", [key(1), key(2)])
    assert first == f"{OWN}\n{BEGIN}\n{key(1)}\n{key(2)}\n{END}\n"
    assert merge(first, [key(1), key(2)]) == first
    assert merge(first, [key(3)]) == f"{OWN}\n{BEGIN}\n{key(3)}\n{END}\n"
    assert merge(first, []) == f"{OWN}\n"
    assert block(first) == [key(1), key(2)]


def test_nothing_to_write():
    assert merge("", []) == ""


def test_a_block_without_an_end_loses_nothing_foreign():
    broken = f"{BEGIN}\n{key(1)}\n{OWN}\n"
    assert merge(broken, [key(1)]) == f"{OWN}\n{BEGIN}\n{key(1)}\n{END}\n"


def test_two_blocks_become_one():
    twice = merge("", [key(1)]) * 2
    assert merge(twice, [key(2)]) == f"{BEGIN}\n{key(2)}\n{END}\n"


def test_bytes_that_are_no_text_survive(tmp_path: Path):
    home = tmp_path
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh" / "authorized_keys").write_bytes(b"# caf\xe9\n")
    descriptor = os.open(home, os.O_RDONLY)
    try:
        old = keys.read(descriptor, os.getuid(), os.getgid())
        assert old is not None
        keys.write(descriptor, os.getuid(), os.getgid(), merge(old, [key(1)]))
    finally:
        os.close(descriptor)
    assert (home / ".ssh" / "authorized_keys").read_bytes().startswith(b"# caf\xe9\n# BEGIN")
    assert (home / ".ssh" / "authorized_keys").stat().st_mode & 0o777 == 0o600


def _lay(home: Path, trap: str) -> None:
    ssh = home / ".ssh"
    if trap == "directory link":
        (home / "elsewhere").mkdir()
        ssh.symlink_to("elsewhere")
        return
    if trap == "no directory":
        ssh.write_text("x")
        return
    ssh.mkdir(mode=0o700)
    file = ssh / "authorized_keys"
    match trap:
        case "link":
            file.symlink_to("/etc/shadow")
        case "pipe":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case "huge":
            file.touch()
            os.truncate(file, keys.SIZE_MAX + 1)


@pytest.mark.parametrize("trap", ["directory link", "no directory", "link", "pipe", "directory", "huge"])
def test_traps_are_named_and_left(tmp_path: Path, trap: str):
    _lay(tmp_path, trap)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(UnsafeError):
            keys.read(descriptor, os.getuid(), os.getgid())
        with pytest.raises(UnsafeError):
            keys.write(descriptor, os.getuid(), os.getgid(), "x\n")
    finally:
        os.close(descriptor)
    assert not any((tmp_path / "elsewhere").iterdir() if trap == "directory link" else ())
