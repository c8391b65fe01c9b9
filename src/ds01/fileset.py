"""Many files in one go: compare all, then check all, then write.

Standard library only: this module also travels to hosts inside Ansible modules.
"""

from __future__ import annotations

import dataclasses
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .files import atomic_write, ensure_directory, read_exactly, remove_file
from .problems import ReportedError

OURS: Final = "# Written by DS01"
"""Start of the first line of every file of ours; what does not start with it is not removed as stale."""

_VALIDATE_TIMEOUT_S: Final = 60


class InvalidFileError(ReportedError):
    """A program refused the new content of a file. The text is `path: value: what was expected: fix`."""


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file of root's."""

    path: Path
    content: str
    mode: int = 0o644
    validate: str | None = None
    """A command that accepts the content; %s is a file that has it, under the same name elsewhere."""


@dataclasses.dataclass(frozen=True, slots=True)
class Directory:
    """A directory of root's."""

    path: Path
    mode: int = 0o755


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What happens to one path; `before` and `after` are what Ansible shows."""

    path: Path
    what: str
    before: str
    after: str


@dataclasses.dataclass(frozen=True, slots=True)
class FileSet:
    """Directories and files that shall be there, and patterns of those that shall not."""

    directories: Sequence[Directory] = ()
    files: Sequence[File] = ()
    stale: Sequence[str] = ()
    """Patterns of absolute paths: files of ours that match and are not in `files` are removed."""

    def plan(self) -> list[Change]:
        """Return the changes that are missing. Raises OSError."""
        changes = [
            Change(item.path, "make directory", _attributes(item.path), f"mode: {item.mode:04o} owner: 0:0\n")
            for item in self.directories
            if _attributes(item.path) != f"mode: {item.mode:04o} owner: 0:0\n"
        ]
        for item in self.files:
            before = _text(item.path)
            if before != item.content:
                changes.append(Change(item.path, "write", before or "", item.content))
            elif (attributes := _attributes(item.path)) != f"mode: {item.mode:04o} owner: 0:0\n":
                changes.append(Change(item.path, "set mode", attributes, f"mode: {item.mode:04o} owner: 0:0\n"))
        wanted = {item.path for item in self.files}
        for path in sorted({path for pattern in self.stale for path in Path("/").glob(pattern.lstrip("/"))} - wanted):
            text = _text(path)
            if text is not None and text.startswith(OURS):
                changes.append(Change(path, "remove", text, ""))
        return changes

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the changes; nothing is written unless every new content is accepted.

        Raises:
            InvalidFileError: A new content was refused.
            OSError: A file could not be written.
        """
        todo = {change.path: change for change in changes}
        for item in self.files:
            if item.path in todo and item.validate is not None:
                _validate(item, item.validate)
        for directory in self.directories:
            if directory.path in todo:
                ensure_directory(directory.path, mode=directory.mode, uid=0, gid=0)
        for item in self.files:
            if item.path in todo:
                if not item.path.parent.exists():
                    ensure_directory(item.path.parent, mode=0o755)
                atomic_write(item.path, item.content, mode=item.mode, uid=0, gid=0)
        for change in changes:
            if change.what == "remove":
                remove_file(change.path)


def _attributes(path: Path) -> str:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return ""
    return f"mode: {stat.S_IMODE(status.st_mode):04o} owner: {status.st_uid}:{status.st_gid}\n"


def _text(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    return read_exactly(path)


def _validate(item: File, command: str) -> None:
    with tempfile.TemporaryDirectory(prefix="ds01-") as directory:
        copy = Path(directory) / item.path.name
        copy.write_text(item.content, encoding="utf-8")
        argv = [word.replace("%s", str(copy)) for word in shlex.split(command)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=_VALIDATE_TIMEOUT_S, check=False)
            words = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
            complaint = "" if done.returncode == 0 else words
        except (OSError, subprocess.TimeoutExpired) as error:
            complaint = str(error)
    if complaint:
        raise InvalidFileError(f"{item.path}: {complaint}: expected `{command}` to accept it: correct the variables")
