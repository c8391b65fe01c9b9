"""Project ids and the answers of the quota tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01.users import quota, quotaplan
from ds01.users.quota import Limit

ANSWER = """#!/bin/sh
cat <<'END'
{}
END
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program of this name and output first on the path: the kernel of the test has no quotas."""
    monkeypatch.setattr(quota, "_environment", lambda: {"PATH": f"{tmp_path}:/usr/bin:/bin", "LC_ALL": "C"})
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(name: str, output: str) -> None:
        (tmp_path / name).write_text(ANSWER.format(output))
        (tmp_path / name).chmod(0o755)

    return make


def test_home_and_scratch_never_share_a_project():
    uids = (1000, 60000, 1722830498, 2**31 - 2)
    projects = {quota.project_of(uid, kind) for uid in uids for kind in ("home", "scratch")}
    assert len(projects) == 2 * len(uids)
    assert all(0 < project < 2**32 - 1 for project in projects)


@pytest.mark.parametrize(
    ("state", "enforced"), [("on", True), ("on (enforced)", True), ("on (accounting)", False), ("off", False)]
)
def test_counting_alone_is_not_enforcing(tool, monkeypatch: pytest.MonkeyPatch, state: str, enforced: bool):
    monkeypatch.setattr(quota, "file_system_of", lambda _path: ("/scratch", "ext4"))
    tool("setquota", "")
    tool("quotaon", f"project quota on /scratch (/dev/vdb) is {state}")
    found = quota.support("/scratch")
    assert found.supported is enforced
    assert bool(found.fix) is not enforced


def test_all_limits_are_read(tool):
    tool(
        "repquota",
        "Project,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,"
        "FileHardLimit,FileGrace\n#0,ok,ok,20,0,0,,2,0,0,\n#2147484648,ok,ok,4,7,204800,,1,0,9,",
    )
    assert quota.limits("/scratch") == {0: Limit(), 2147484648: Limit(block_soft=7, block_hard=204800, file_hard=9)}


def test_an_interrupted_assignment_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "anna"
    (home / "deep").mkdir(parents=True)
    (home / "deep/file").touch()
    (home / "file").touch()
    inodes = {path.stat().st_ino for path in (home, *home.rglob("*"))}
    for room in range(len(inodes)):
        done: set[int] = set()

        def put(descriptor: int, _number: int, done: set[int] = done, room: int = room) -> None:
            if len(done) == room:
                raise KeyboardInterrupt
            done.add(os.fstat(descriptor).st_ino)

        monkeypatch.setattr(quota, "_put", put)
        with pytest.raises(KeyboardInterrupt):
            quota.assign(str(home), os.getuid(), 7)
        # The next run looks at the top alone.
        assert home.stat().st_ino not in done
    assert done < inodes


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A file system as the quota tools show it: what is set is what is read. The kernel's own is in the scenario vm."""
    found: dict[int, Limit] = {}
    monkeypatch.setattr(quotaplan, "RECORD", tmp_path / "quotas.json")
    monkeypatch.setattr(quota, "limits", lambda _mount: dict(found))
    monkeypatch.setattr(quota, "set_limits", lambda _mount, wanted: found.update(wanted))
    return found


def set_as_a_run_does(disk: dict[int, Limit], wanted: dict[int, Limit]) -> None:
    before = {number: disk.get(number, Limit()) for number in wanted}
    assert quotaplan.QuotaPlan(limits={"/scratch": wanted}, before={"/scratch": before}).apply() == ({}, {})


LIMITS = st.dictionaries(st.integers(1000, 1003), st.builds(Limit, *[st.integers(0, 3)] * 4))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=LIMITS, runs=st.lists(LIMITS, max_size=4))
def test_however_often_it_was_set_every_limit_comes_back_as_it_was(disk, first, runs):
    disk.clear()
    disk.update(first)
    for wanted in runs:
        set_as_a_run_does(disk, wanted)
    predicted = quotaplan.undo(check=True)
    assert quotaplan.undo(check=False) == predicted
    assert {number: limit for number, limit in disk.items() if limit != Limit()} == {
        number: limit for number, limit in first.items() if limit != Limit()
    }
    assert quotaplan.undo(check=False) == ([], [])
    assert not quotaplan.RECORD.exists()


def test_quotas_that_cannot_be_reached_are_named_and_do_not_stop_the_removal(disk, monkeypatch):
    set_as_a_run_does(disk, {1001: Limit(block_hard=5)})

    def gone(mount: str) -> dict[int, Limit]:
        raise OSError(f"{mount}: quotas cannot be read: not on")

    monkeypatch.setattr(quota, "limits", gone)
    changes, (warning,) = quotaplan.undo(check=False)
    assert changes == []
    assert warning.startswith("/scratch: quotas cannot be read: not on: 1 disk quotas stay: ")
    assert "1001" in warning
