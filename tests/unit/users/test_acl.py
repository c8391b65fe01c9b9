"""Access control lists against the tool that everybody else uses."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ds01.storage import acl
from lab.packages import install

USERS = {"root": 0, "games": 5}
GROUPS = {"video": 44, "audio": 29}


def test_the_tool_reads_what_we_write(tmp_path: Path):
    if not shutil.which("getfacl"):
        install("acl")
    rights = acl.parse(["group:video:rwx", "u:games:r-x", "g:audio:---"], 0o2750, USERS, GROUPS)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        acl.write(descriptor, acl.DEFAULT, rights.pack())
        shown = subprocess.run(["getfacl", "-dnpc", tmp_path], capture_output=True, text=True, check=True).stdout
        assert shown.split() == [
            "user::rwx",
            "user:5:r-x",
            "group::r-x",
            "group:29:---",
            "group:44:rwx",
            "mask::rwx",
            "other::---",
        ]
        assert acl.read(descriptor, acl.DEFAULT) == rights.pack()
        acl.write(descriptor, acl.DEFAULT, None)
        assert acl.read(descriptor, acl.DEFAULT) is None
    finally:
        os.close(descriptor)


def test_the_owning_groups_right_is_not_the_mask():
    rights = acl.parse(["group:video:rwx"], 0o750, USERS, GROUPS)
    assert rights.mask == 7
    assert acl.group_of(rights.pack()) == 5


@pytest.mark.parametrize("entry", ["video:rwx", "group:video:rw", "group:video:rwz", "other::r-x", "x:video:rwx"])
def test_malformed_entries(entry: str):
    with pytest.raises(ValueError, match="an entry like"):
        acl.parse([entry], 0o770, USERS, GROUPS)
