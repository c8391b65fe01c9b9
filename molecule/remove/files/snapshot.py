"""Prints every file of the host with what it is, for comparison before DS01 came and after it went."""

import hashlib
import json
import os
import stat
import sys
from pathlib import Path

# What lives its own life on any host while it runs; nothing of DS01's is looked for in here.
ELSEWHERE = (
    "/proc", "/sys", "/dev", "/tmp",
    "/run/user", "/run/systemd", "/run/udev", "/run/sudo", "/run/log",
    "/run/docker", "/run/docker.pid", "/run/containerd",
    "/var/lib/docker", "/var/lib/containerd", "/var/log/journal", "/root/.ansible",
)  # fmt: skip


def describe(path: Path) -> list[object]:
    """Kind and owner of a file, and its content, so that a restored file counts as the same one."""
    info = path.lstat()
    facts: list[object] = [stat.filemode(info.st_mode), info.st_uid, info.st_gid]
    if path.is_symlink():
        facts.append(str(path.readlink()))
    elif stat.S_ISREG(info.st_mode):
        facts.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return facts


def main() -> None:
    """Walk the whole tree; a file that vanishes meanwhile was never there."""
    found = {}
    for folder, names, files in os.walk("/"):
        names[:] = [name for name in names if str(Path(folder, name)) not in ELSEWHERE]
        for path in (Path(folder, name) for name in names + files):
            if str(path) in ELSEWHERE:
                continue
            try:
                found[str(path)] = describe(path)
            except FileNotFoundError:
                continue
    json.dump(found, sys.stdout)


main()
