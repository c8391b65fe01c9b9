import stat
from pathlib import Path

import pytest

from ds01.fileset import Directory, File, FileSet, InvalidFileError

TEXT = "# Written by DS01\nx\n"


def test_planned_is_applied_and_then_nothing_is_left(tmp_path: Path):
    (tmp_path / "old.conf").write_text(TEXT)
    (tmp_path / "theirs.conf").write_text("x\n")
    (tmp_path / "link.conf").symlink_to(tmp_path / "old.conf")
    wanted = FileSet(
        directories=[Directory(tmp_path / "d", 0o700)],
        files=[File(tmp_path / "sub" / "new.conf", TEXT), File(tmp_path / "keep.conf", TEXT, 0o600)],
        stale=[f"{tmp_path}/*.conf"],
    )
    changes = wanted.plan()
    assert [(change.what, change.path.name) for change in changes] == [
        ("make directory", "d"),
        ("write", "new.conf"),
        ("write", "keep.conf"),
        ("remove", "old.conf"),
    ]
    assert not (tmp_path / "d").exists()
    wanted.apply(changes)
    assert wanted.plan() == []
    assert sorted(path.name for path in tmp_path.glob("*.conf")) == ["keep.conf", "link.conf", "theirs.conf"]
    assert stat.S_IMODE((tmp_path / "keep.conf").stat().st_mode) == 0o600


def test_a_wrong_mode_is_a_change(tmp_path: Path):
    (tmp_path / "a").write_text(TEXT)
    (tmp_path / "a").chmod(0o666)
    wanted = FileSet(files=[File(tmp_path / "a", TEXT)])
    [change] = wanted.plan()
    assert change.what == "set mode"
    wanted.apply([change])
    assert wanted.plan() == []


@pytest.mark.parametrize(
    "content",
    [
        b"# Written by DS01\r\nG\xc3\xa4ste\r\n",
        b"\xef\xbb\xbf# Written by DS01\nG\xc3\xa4ste\n",
        b"# Written by DS01\nG\xe4ste\n",
        b"# Written by DS01\nG\xc3\xa4ste",
        b"# Written by DS01\nG\xc3\xa4ste\n\0",
        b"",
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_what_an_editor_made_of_a_file_is_put_right(tmp_path: Path, content: bytes, linked: bool):
    good, path = "# Written by DS01\nGäste\n", tmp_path / "a"
    if linked:
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to("elsewhere")
    else:
        path.write_bytes(content)
    wanted = FileSet(files=[File(path, good, validate="grep -q Gäste %s")])
    wanted.apply(wanted.plan())
    assert not path.is_symlink()
    assert path.read_bytes() == good.encode()
    assert wanted.plan() == []


def test_nothing_is_written_when_one_content_is_refused(tmp_path: Path):
    wanted = FileSet(
        files=[
            File(tmp_path / "good", "good\n", validate="grep -q good %s"),
            File(tmp_path / "bad", "bad\n", validate="grep -q good %s"),
        ]
    )
    with pytest.raises(InvalidFileError, match="bad: exit status 1: expected `grep -q good %s` to accept it"):
        wanted.apply(wanted.plan())
    assert list(tmp_path.iterdir()) == []


def test_a_checker_that_is_not_there_refuses(tmp_path: Path):
    wanted = FileSet(files=[File(tmp_path / "a", TEXT, validate="/nowhere/check %s")])
    with pytest.raises(InvalidFileError, match="No such file"):
        wanted.apply(wanted.plan())
