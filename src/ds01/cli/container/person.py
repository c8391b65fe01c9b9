"""Who somebody is inside a container: the same numbers as outside, with a name, a home and a shell."""

from __future__ import annotations

import grp
import io
import os
import pwd
import tarfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ds01.cli.person import caller

_FIRST_GID: Final = 1000
"""Numbers below are of the system; in the image they may mean something else."""
_BASHRC: Final = r"""# Made for this container; it goes with it. What should stay belongs into the image or /workspace.
PS1='[{name}] \u@\h:\w\$ '
PATH="$HOME/.local/bin:$PATH"
alias ls='ls --color=auto' ll='ls -l' la='ls -la' grep='grep --color=auto'
alias gpu='nvidia-smi'
"""
_PROFILE: Final = "[ -r ~/.bashrc ] && . ~/.bashrc\n"


@dataclass(frozen=True)
class Person:
    """The caller."""

    uid: int
    gid: int
    name: str
    groups: tuple[int, ...] = ()
    """Further groups, by number."""

    @property
    def home(self) -> str:
        """The home in the container."""
        return f"/home/{self.name}" if self.uid else "/root"


def myself() -> Person:
    """Return the caller. Raises click.UsageError for a number without a name."""
    gid = os.getgid()
    groups = sorted(number for number in os.getgroups() if number != gid and number >= _FIRST_GID)
    return Person(os.getuid(), gid, caller(), tuple(groups))


def passwd(text: str, person: Person) -> str:
    """Return /etc/passwd with the person, and nobody else by that name or number."""
    line = f"{person.name}:x:{person.uid}:{person.gid}:{_real_name(person.uid)}:{person.home}:/bin/bash"
    return _with(text, [line])


def group(text: str, person: Person) -> str:
    """Return /etc/group with the person's groups by the names that they have on the host."""
    return _with(text, [f"{_group_name(gid)}:x:{gid}:" for gid in (person.gid, *person.groups)])


def home(name: str, person: Person, files: dict[str, str]) -> bytes:
    """Return a tar archive with a home, its start files, and further files of root's below the root directory.

    Args:
        name: The container's name, for the prompt.
        person: Whose home.
        files: Path -> content.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, content in files.items():
            _add(tar, path, content)
        directory = tarfile.TarInfo(person.home.lstrip("/"))
        directory.type, directory.mode, directory.uid, directory.gid = tarfile.DIRTYPE, 0o700, person.uid, person.gid
        directory.mtime = int(time.time())
        tar.addfile(directory)
        for path, content in ((".bashrc", _BASHRC.replace("{name}", name)), (".profile", _PROFILE)):
            _add(tar, f"{person.home}/{path}", content, person)
    return stream.getvalue()


def only_file(archive: bytes) -> str:
    """Return the content of the first file of a tar archive, "" for none."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None:
                return stream.read().decode(errors="replace")
    return ""


def _with(text: str, lines: Iterable[str]) -> str:
    """Put lines into a table of names and numbers, in place of others with that name or number."""
    fresh = list(lines)
    names, numbers = ({line.split(":")[at] for line in fresh} for at in (0, 2))
    kept = [
        line
        for line in text.splitlines()
        if line.count(":") < 2 or (line.split(":")[0] not in names and line.split(":")[2] not in numbers)  # noqa: PLR2004 - name, password, number
    ]
    return "\n".join([*kept, *fresh]) + "\n"


def _add(tar: tarfile.TarFile, path: str, content: str, person: Person | None = None) -> None:
    data = content.encode()
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.size, entry.mode, entry.mtime = len(data), 0o644, int(time.time())
    if person is not None:
        entry.uid, entry.gid = person.uid, person.gid
    tar.addfile(entry, io.BytesIO(data))


def _real_name(uid: int) -> str:
    # Only what cannot end the field or the line.
    return pwd.getpwuid(uid).pw_gecos.partition(",")[0].replace(":", " ").replace("\n", " ")


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group{gid}"
