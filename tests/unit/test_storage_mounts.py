"""Mount units on a host whose administrators have their own, in whatever encoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01.storage import mounts


def test_units_that_are_no_utf_8_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mounts, "UNITS", tmp_path)
    (tmp_path / "mnt.mount").write_bytes(b"# F\xfcr die G\xe4ste\n[Mount]\nWhere=/mnt\n")
    (tmp_path / "srv-x.mount").write_bytes(b"# Written by DS01 (role storage)\n# ge\xe4ndert\n[Mount]\nWhere=/srv/x\n")
    changes, _ = mounts.undo(check=True)
    assert [change.what for change in changes] == ["/srv/x nosuid,nodev"]
