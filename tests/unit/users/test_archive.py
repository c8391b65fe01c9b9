"""What counts as a change since an archive was made."""

from __future__ import annotations

import time
from pathlib import Path

from ds01.users.archive import changed_since


def test_a_single_file_counts_as_a_directory_does(tmp_path: Path):
    mail, home = tmp_path / "mail", tmp_path / "home"
    mail.write_text("old")
    (home / "deep").mkdir(parents=True)
    both = [str(mail), str(home)]
    moment = time.time() + 0.05
    assert not changed_since(both, moment)
    time.sleep(0.1)
    mail.write_text("new")
    assert changed_since(both, moment)
    moment = time.time() + 0.05
    time.sleep(0.1)
    assert not changed_since(both, moment)
    (home / "deep/file").touch()
    assert changed_since(both, moment)
