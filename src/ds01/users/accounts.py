"""The account database of a host: read once, edited in memory, replaced in one locked step, then verified.

Lines that are not ours to change are kept byte for byte. `docs/decisions/0001-account-database.md` says why the
files are edited here and not by one program call for each person.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..locks import exclusive
from ..problems import ApplyError

ETC: Final = Path("/etc")
TABLES: Final = ("gshadow", "group", "shadow", "subuid", "subgid", "passwd")
"""In the order of replacement: `passwd` comes last, so an account is never visible before all that belongs to it."""
_DEFAULT_MODES: Final = {"gshadow": 0o640, "shadow": 0o640}
LOCK_TIMEOUT_S: Final = 30.0
"""Twice the 15 s that lckpwdf(3) waits: whoever uses it has given up or is done by then."""
_TEMP_SUFFIX: Final = ".ds01-new"
_CHECK_TIMEOUT_S: Final = 60.0
"""For 500 people the checkers take a second; everybody who changes an account waits meanwhile."""


class Table:
    """One file of colon-separated lines, by the name in its first field."""

    def __init__(self, data: bytes) -> None:
        self.original = data
        self._lines: list[bytes | None] = list(data.split(b"\n"))
        if self._lines and not self._lines[-1]:
            self._lines.pop()
        self._index: dict[str, int] = {}
        for number, line in enumerate(self._lines):
            # The first line of a name is the one that the C library finds.
            self._index.setdefault(_decode(line or b"").partition(":")[0], number)

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def get(self, name: str) -> list[str] | None:
        """Return the fields of the entry, or None."""
        number = self._index.get(name)
        line = None if number is None else self._lines[number]
        return None if line is None else _decode(line).split(":")

    def put(self, fields: list[str]) -> None:
        """Replace the entry of this name, or add one at the end, before any line of the old NIS form."""
        line = ":".join(fields).encode("utf-8", "surrogateescape")
        number = self._index.get(fields[0])
        if number is not None:
            self._lines[number] = line
            return
        end = next((n for n, old in enumerate(self._lines) if old is not None and old[:1] in (b"+", b"-")), None)
        if end is None:
            self._index[fields[0]] = len(self._lines)
            self._lines.append(line)
        else:
            self._lines.insert(end, line)
            self._index = {name: at + (at >= end) for name, at in self._index.items()} | {fields[0]: end}

    def remove(self, name: str) -> bool:
        """Take the entry out; say whether there was one."""
        number = self._index.pop(name, None)
        if number is None:
            return False
        self._lines[number] = None
        return True

    def entries(self) -> Iterator[list[str]]:
        """Yield the fields of every entry; comments, empty and NIS lines are left out."""
        for line in self._lines:
            if line and line[:1] not in (b"#", b"+", b"-"):
                yield _decode(line).split(":")

    def render(self) -> bytes:
        """Return the file as it should be."""
        kept = [line for line in self._lines if line is not None]
        return b"\n".join(kept) + b"\n" if kept else b""

    @property
    def changed(self) -> bool:
        """Whether an entry differs; a missing newline at the end of the file alone is not ours to mend."""
        return self.render().rstrip(b"\n") != self.original.rstrip(b"\n")


class Accounts:
    """passwd, shadow, group, gshadow, subuid and subgid of one host."""

    def __init__(self, etc: Path = ETC) -> None:
        self.etc = etc
        self.tables: dict[str, Table] = {}
        self._absent: set[str] = set()
        for name in TABLES:
            try:
                self.tables[name] = Table((etc / name).read_bytes())
            except FileNotFoundError:
                self.tables[name] = Table(b"")
                self._absent.add(name)
        self.passwd = self.tables["passwd"]
        self.shadow = self.tables["shadow"]
        self.group = self.tables["group"]
        self.gshadow = self.tables["gshadow"]

    @property
    def has_gshadow(self) -> bool:
        """Whether this host keeps shadowed groups; where it does not, we do not begin to."""
        return "gshadow" not in self._absent

    def members(self, group: str) -> list[str]:
        """Return the names listed in the group's entry."""
        fields = self.group.get(group)
        return [name for name in fields[3].split(",") if name] if fields and len(fields) > 3 else []  # noqa: PLR2004

    def set_members(self, group: str, members: list[str]) -> None:
        """Write the group's list of members, in both files."""
        for table in (self.group, self.gshadow):
            fields = table.get(group)
            if fields is not None:
                table.put([*fields[:3], ",".join(members)])

    def groups_of(self, login: str) -> list[str]:
        """Return the groups whose entry lists the login."""
        return [fields[0] for fields in self.group.entries() if login in fields[-1].split(",")]

    def add_group(self, name: str, gid: int) -> None:
        """Add an empty group."""
        self.group.put([name, "x", str(gid), ""])
        if self.has_gshadow:
            self.gshadow.put([name, "!", "", ""])

    def remove_group(self, name: str) -> None:
        """Remove a group from both files."""
        self.group.remove(name)
        self.gshadow.remove(name)

    def changed(self) -> list[str]:
        """Return the names of the files that differ from what was read."""
        return [name for name in TABLES if self.tables[name].changed]

    def commit(self) -> list[str]:
        """Replace the changed files and check them with pwck and grpck.

        All new files are on the disk before the first takes its place, so a full disk changes nothing. If the
        checkers complain about something they did not complain about before, the old files come back.

        Returns:
            The names of the files that were replaced. The caller holds `locked()`.

        Raises:
            ApplyError: Nothing is changed; the text says why.
        """
        names = self.changed()
        if not names:
            return []
        complaints = self._complaints()
        contents = {name: self.tables[name].render() for name in names}
        self._replace(contents)
        originals = {name: self.tables[name].original for name in names}
        try:
            fresh = self._complaints() - complaints
        except ApplyError:
            self._replace(originals)
            raise
        if fresh:
            self._replace(originals)
            raise ApplyError(
                "the account files were put back, because their checkers complained: " + "; ".join(sorted(fresh))
            )
        for name in names:
            self.tables[name].original = contents[name]
        _forget_cached_names()
        return names

    def _replace(self, contents: dict[str, bytes]) -> None:
        backups: list[tuple[Path, Path]] = []
        staged: list[tuple[Path, Path]] = []
        try:
            for name, data in contents.items():
                target = self.etc / name
                # shadow(5) tools keep the last version under this name; whoever looks there finds it.
                with contextlib.suppress(FileNotFoundError):
                    backups.append((self._stage(target, target.read_bytes(), "-"), target.with_name(name + "-")))
                staged.append((self._stage(target, data, ""), target))
            # The files in use follow each other with nothing between: a run killed here leaves parts of an account
            # that nobody has yet, which the next run completes.
            for temporary, target in [*backups, *staged]:
                temporary.rename(target)
        except OSError as error:
            for temporary, _ in [*backups, *staged]:
                temporary.unlink(missing_ok=True)
            raise ApplyError(f"{self.etc}: {error.strerror}: the account files were left as they were") from error
        descriptor = os.open(self.etc, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _stage(self, target: Path, data: bytes, tag: str) -> Path:
        temporary = target.with_name(f".{target.name}{tag}{_TEMP_SUFFIX}")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                try:
                    old = target.stat()
                    owner, group, mode = old.st_uid, old.st_gid, stat.S_IMODE(old.st_mode)
                except FileNotFoundError:
                    owner, group, mode = 0, 0, _DEFAULT_MODES.get(target.name, 0o644)
                os.fchown(descriptor, owner, group)
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _complaints(self) -> set[str]:
        files = {name: str(self.etc / name) for name in TABLES}
        commands = [["pwck", "-r", "-q", files["passwd"], files["shadow"]], ["grpck", "-r", files["group"]]]
        if self.has_gshadow:
            commands[1].append(files["gshadow"])
        lines: set[str] = set()
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        for command in commands:
            try:
                done = subprocess.run(
                    command,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                    stdin=subprocess.DEVNULL,
                    timeout=_CHECK_TIMEOUT_S,
                )
            except subprocess.TimeoutExpired as error:
                raise ApplyError(
                    f"{command[0]}: no end after {error.timeout:.0f} s: the account files are as they were: "
                    f"run `{' '.join(command)}` by hand to see why"
                ) from None
            output = done.stdout + done.stderr
            lines |= {
                f"{command[0]}: {line.strip()}"
                for line in output.splitlines()
                if ": no changes" not in line and line.strip()
            }
        return lines


def locked(etc: Path = ETC, timeout_s: float = LOCK_TIMEOUT_S) -> contextlib.AbstractContextManager[None]:
    """Hold the lock that passwd(1), useradd(8), systemd-sysusers(8) and every user of lckpwdf(3) take.

    Args:
        etc: Where the account files are.
        timeout_s: How long to wait for another holder, in seconds.

    Raises:
        ApplyError: Another program held it all the time.
    """
    return exclusive(etc / ".pwd.lock", timeout_s, "end that program (vipw, passwd) and run again", fcntl.lockf)


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _forget_cached_names() -> None:
    # nscd keeps "no such user" for a while; where it does not run there is nothing to forget.
    if Path("/run/nscd/socket").exists():
        for table in ("passwd", "group"):
            subprocess.run(["nscd", "-i", table], check=False, capture_output=True, stdin=subprocess.DEVNULL)
