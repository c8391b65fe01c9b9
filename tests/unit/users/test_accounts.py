"""The account files: foreign bytes stay, all files or none, verified by the system's own checkers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ds01.problems import ApplyError
from ds01.users import accounts
from ds01.users.accounts import Accounts, Table, locked

PASSWD = b"root:x:0:0:root:/root:/bin/sh\n# a comment\n\nodd:x:1500:1500:caf\xe9:/nowhere:/bin/sh\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "passwd").write_bytes(b"root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000:caf\xe9:/home/anna:/bin/sh\n")
    (tmp_path / "shadow").write_bytes(b"root:*:20000:0:99999:7:::\nanna:$y$secret:20000:0:99999:7:::\n")
    (tmp_path / "group").write_bytes(b"root:x:0:\nanna:x:1000:\nclub:x:1001:anna\n")
    (tmp_path / "gshadow").write_bytes(b"root:*::\nanna:!::\nclub:!::anna\n")
    (tmp_path / "shadow").chmod(0o640)
    (tmp_path / "gshadow").chmod(0o640)
    return tmp_path


def test_untouched_lines_are_kept_byte_for_byte():
    table = Table(PASSWD)
    assert table.render() == PASSWD
    assert not table.changed
    table.put(["new", "x", "1501", "1501", "", "/home/new", "/bin/sh"])
    assert table.render() == PASSWD + b"new:x:1501:1501::/home/new:/bin/sh\n"
    assert table.remove("new")
    assert table.render() == PASSWD


def test_new_entries_come_before_the_nis_line():
    table = Table(b"root:x:0:0::/root:/bin/sh\n+::::::\n")
    table.put(["a", "x"])
    table.put(["b", "x"])
    table.put(["a", "y"])
    assert table.render() == b"root:x:0:0::/root:/bin/sh\na:y\nb:x\n+::::::\n"


def test_a_file_without_its_last_newline():
    table = Table(b"root:x:0:0::/root:/bin/sh")
    assert not table.changed
    table.put(["a", "x"])
    assert table.render() == b"root:x:0:0::/root:/bin/sh\na:x\n"


def test_members_are_written_to_both_files(etc: Path):
    database = Accounts(etc)
    database.set_members("club", ["anna", "root"])
    assert database.commit() == ["gshadow", "group"]
    assert b"club:x:1001:anna,root\n" in (etc / "group").read_bytes()
    assert b"club:!::anna,root\n" in (etc / "gshadow").read_bytes()
    assert (etc / "group-").read_bytes() == b"root:x:0:\nanna:x:1000:\nclub:x:1001:anna\n"
    assert sorted(path.name for path in etc.iterdir()) == ["group", "group-", "gshadow", "gshadow-", "passwd", "shadow"]


def test_modes_and_secrets_stay(etc: Path):
    database = Accounts(etc)
    database.shadow.put(["anna", "!", "20000", "0", "99999", "7", "", "1", ""])
    database.commit()
    assert (etc / "shadow").stat().st_mode & 0o777 == 0o640
    assert (etc / "shadow-").stat().st_mode & 0o777 == 0o640


def test_what_the_checkers_refuse_is_put_back(etc: Path):
    if shutil.which("pwck") is None:
        pytest.fail("pwck is needed (package passwd)")
    before = (etc / "passwd").read_bytes()
    database = Accounts(etc)
    database.passwd.put(["bob", "x", "not-a-number", "1000", "", "/home/bob", "/bin/sh"])
    with pytest.raises(ApplyError, match="put back"):
        database.commit()
    assert (etc / "passwd").read_bytes() == before


def test_old_complaints_do_not_stop_a_run(etc: Path):
    (etc / "passwd").write_bytes((etc / "passwd").read_bytes() + b"broken line\n")
    database = Accounts(etc)
    database.set_members("club", [])
    assert database.commit()
    assert b"broken line\n" in (etc / "passwd").read_bytes()


def test_a_full_disk_changes_nothing(etc: Path, monkeypatch: pytest.MonkeyPatch):
    before = {path.name: path.read_bytes() for path in etc.iterdir()}
    calls = iter(range(100))
    real = os.fsync

    def full(descriptor: int) -> None:
        if next(calls) == 3:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(accounts.os, "fsync", full)
    database = Accounts(etc)
    database.set_members("club", [])
    database.shadow.put(["anna", "!", "20000", "0", "99999", "7", "", "1", ""])
    with pytest.raises(ApplyError, match="No space left"):
        database.commit()
    assert {path.name: path.read_bytes() for path in etc.iterdir()} == before


@pytest.mark.parametrize("ends", [0, 1, 2, 3])
def test_a_checker_that_does_not_end_changes_nothing(etc: Path, monkeypatch: pytest.MonkeyPatch, ends: int):
    before = {path.name: path.read_bytes() for path in etc.iterdir()}
    real, calls = subprocess.run, iter(range(100))

    def run(command: list[str], **options: Any) -> Any:
        # The kernel really ends it when the time is over; before that it would have checked.
        hangs = next(calls) == ends
        return real(["sleep", "60"] if hangs else command, **(options | {"timeout": 0.2} if hangs else options))

    monkeypatch.setattr(accounts.subprocess, "run", run)
    database = Accounts(etc)
    database.set_members("club", [])
    with pytest.raises(ApplyError, match=r"(pwck|grpck): no end after \d+ s"):
        database.commit()
    assert {name: (etc / name).read_bytes() for name in before} == before


def test_the_lock_is_the_one_of_the_system(etc: Path):
    lock = str(etc / ".pwd.lock")
    script = f"import fcntl; f = open({lock!r}, 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('x', flush=True); input()"
    with subprocess.Popen(["python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        with pytest.raises(ApplyError, match="held by another program"), locked(etc, timeout_s=0.3):
            pass
        holder.stdin.close()
    with locked(etc, timeout_s=5):
        taker = f"import fcntl; fcntl.lockf(open({str(etc / '.pwd.lock')!r}, 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run(["python3", "-c", taker], capture_output=True, text=True, check=False)
    assert "BlockingIOError" in done.stderr
