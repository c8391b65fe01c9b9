"""Where things are mounted, whatever their names are."""

from __future__ import annotations

import pytest

from ds01 import mountinfo
from ds01.storage import mounts
from ds01.users import presence

ROOT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,prjquota"
HOME = "40 22 8:1 /home /home rw,nosuid,nodev shared:1 - ext4 /dev/sda1 rw,prjquota"
OVER = "50 40 0:50 / /home rw - nfs server:/home rw"


@pytest.fixture
def table(monkeypatch, tmp_path):
    def write(*lines: str) -> None:
        (tmp_path / "mountinfo").write_text("".join(f"{line}\n" for line in lines))

    monkeypatch.setattr(mountinfo, "MOUNTINFO", tmp_path / "mountinfo")
    return write


def test_this_machine_can_be_read():
    assert mountinfo.topmost()["/proc"].kind == "proc"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("/home/a\\040b", "/home/a b"),
        ("/home/a\\134040b", "/home/a\\040b"),
        ("/home/\N{LATIN SMALL LETTER E WITH ACUTE}mile/mnt", "/home/\N{LATIN SMALL LETTER E WITH ACUTE}mile/mnt"),
    ],
)
def test_names_are_what_they_are(table, written, name):
    table(ROOT, f"60 22 8:2 / {written} rw shared:3 master:2 - xfs /dev/sdb rw")
    assert mountinfo.mounts()[1].place == name
    assert mountinfo.mounts()[1].kind == "xfs"
    # Whoever removes a home must see this, or what is mounted there goes with it.
    assert presence.mounts_below([name.rpartition("/")[0]]) == [name]


@pytest.mark.parametrize(
    ("lines", "ours"),
    [
        ((ROOT,), False),
        ((ROOT, HOME), True),
        ((ROOT, HOME, OVER), False),
        ((ROOT, "40 22 8:2 / /home rw - ext4 /dev/sdb rw"), False),
        ((ROOT, HOME, "50 40 8:1 /srv /home rw - ext4 /dev/sda1 rw"), False),
    ],
    ids=["nothing mounted", "bound to itself", "another over it", "a file system of its own", "another directory"],
)
def test_only_a_directory_on_top_of_itself_is_taken_for_ours(table, lines, ours):
    table(*lines)
    assert mounts.bound_to_itself("/home") is ours
