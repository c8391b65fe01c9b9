"""Are DS01's own files readable by those who need them, and writable by nobody else?"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ..policy import DEFAULT_PATH
from .model import Check, failed, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

# Everybody's commands read these; an installation under umask 077 must not lock them out.
_PLACES = (Path("/etc/ds01"), Path("/opt/ds01"), Path("/run/ds01"))
PUBLIC = (*_PLACES, Path(DEFAULT_PATH))
OURS = (*_PLACES, Path("/var/lib/ds01"), Path("/var/log/ds01"))
# What containers bind is mounted there: it belongs to people, in a directory that only root enters.
_PEOPLES = Path("/run/ds01/binds")
_SHOWN = 5


def check_permissions() -> Check:
    """Every file below DS01's directories belongs to root, and the public ones can be read by everybody."""
    missing = [str(place) for place in OURS if not place.is_dir()]
    if missing:
        return failed("files", f"missing: {', '.join(missing)}", "Run site.yml again.")
    faults = [fault for place in OURS for path in _below(place) if (fault := _fault(path))]
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        return failed("files", "; ".join(faults[:_SHOWN]) + more, "Run site.yml again, then find out who changed them.")
    return ok("files", "owned by root, writable by nobody else, public ones readable")


def _below(place: Path) -> Iterator[Path]:
    yield place
    for folder, names, files in os.walk(place):
        names[:] = [name for name in names if Path(folder, name) != _PEOPLES]
        yield from (Path(folder, name) for name in names + files)


def _fault(path: Path) -> str:
    """What is wrong with one file, or an empty string."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return ""
    if stat.S_ISLNK(info.st_mode):
        return ""
    if info.st_uid != 0:
        return f"{path}: owned by uid {info.st_uid}"
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not stat.S_ISSOCK(info.st_mode):
        return f"{path}: writable by others ({stat.filemode(info.st_mode)})"
    # Private corners below a public place (the engine's socket directory) are private on purpose.
    public = path in PUBLIC or Path("/opt/ds01") in path.parents
    needed = stat.S_IROTH | (stat.S_IXOTH if info.st_mode & stat.S_IXUSR else 0)
    if public and needed & ~info.st_mode:
        return f"{path}: not usable by everybody ({stat.filemode(info.st_mode)})"
    return ""
