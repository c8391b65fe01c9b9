"""The engine's systemd units: how it is started, and the drop-in that closes its socket."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from .command import run

SERVICE: Final = "docker.service"
SOCKET_UNIT: Final = "docker.socket"
DROP_IN: Final = "/etc/systemd/system/docker.socket.d/50-ds01.conf"
SOCKET_MODE: Final = 0o600

DROP_IN_TEXT: Final = """\
# Written by DS01: only root talks to the engine directly.
[Socket]
SocketMode=0600
SocketUser=root
SocketGroup=root
"""

_SOURCE = re.compile(r"^# (/\S.*)$")
_DEFAULTS: Final = "/etc/default/docker"


def is_installed() -> bool:
    """Whether the engine and its unit are there."""
    return bool(command_line())


def is_active(unit: str = SERVICE) -> bool:
    """Whether the unit runs now."""
    return run(["systemctl", "is-active", "--quiet", unit]).ok


def command_line(ignored: Collection[str] = (), defaults: str = _DEFAULTS) -> list[str]:
    """Return dockerd's arguments as its unit gives them, or [] if there is no unit.

    Args:
        ignored: Drop-ins that do not count, because they are about to go.
        defaults: The file with `DOCKER_OPTS` that Debian's unit reads.
    """
    shown = run(["systemctl", "cat", SERVICE])
    if not shown.ok:
        return []
    try:
        options = Path(defaults).read_text(encoding="utf-8")
    except OSError:
        options = ""
    command = exec_start(shown.stdout, ignored, _docker_opts(options))
    # A package that was removed leaves an init script, of which systemd makes a unit.
    return command if command and Path(command[0]).name == "dockerd" else []


def runs_on_socket_unit() -> bool:
    """Whether the engine that runs now was started to listen on the socket unit, with that unit active."""
    shown = run(["systemctl", "show", "--property=MainPID", "--value", SERVICE])
    try:
        arguments = Path("/proc", shown.stdout.strip() or "0", "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"fd://" in arguments and is_active(SOCKET_UNIT)


def exec_start(shown: str, ignored: Collection[str] = (), options: str = "") -> list[str]:
    """Return the command of a service out of what `systemctl cat` prints.

    Args:
        shown: The unit and its drop-ins, each under a comment with its path.
        ignored: Paths whose part does not count.
        options: What `$DOCKER_OPTS` stands for.
    """
    command = ""
    skipping = False
    for line in shown.replace("\\\n", " ").splitlines():
        source = _SOURCE.match(line)
        if source:
            skipping = source.group(1) in ignored
        elif line.startswith("ExecStart=") and not skipping:
            command = line.partition("=")[2].strip().lstrip("@-:+!")
    # A replacement function: options may hold backslashes.
    command = re.sub(r"\$\{?DOCKER_OPTS\}?", lambda _: options, command)
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _docker_opts(text: str) -> str:
    found = re.findall(r"""^\s*DOCKER_OPTS=(["']?)(.*)\1\s*$""", text, flags=re.MULTILINE)
    return str(found[-1][1]) if found else ""


def socket_path() -> Path | None:
    """Return where the socket unit listens, or None if it does not exist."""
    shown = run(["systemctl", "show", "--property=Listen", "--value", SOCKET_UNIT])
    path = shown.stdout.strip().split(" ", 1)[0]
    return Path(path) if shown.ok and path.startswith("/") else None


def socket_is_closed(path: Path) -> bool:
    """Whether only root can open the socket; one that does not exist is closed."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return True
    return stat.S_IMODE(found.st_mode) == SOCKET_MODE and (found.st_uid, found.st_gid) == (0, 0)
