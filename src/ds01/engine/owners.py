"""Whose is a container that DS01 did not make? The first answer that holds wins; without one it is nobody's.

Labels and paths are claims of whoever made the container, so a path counts only if that person really owns it.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

SUFFIX: Final = "._."
"""Stands between the name of an object and the uid of its owner."""
OWN_IMAGE: Final = re.compile(r"ds01-(0|[1-9][0-9]{0,9})/(.+)", re.DOTALL)
"""The names of a person's own images."""
_UID = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_UID_MAX: Final = (1 << 32) - 2


class Owner(NamedTuple):
    """A person and how they were found: uid, name-suffix, label, dev-container, bind or compose."""

    uid: int
    name: str
    how: str


def owner(container: Mapping[str, Any]) -> Owner | None:
    """Return the owner of an inspected container, or None.

    The order: number after `._.` in the name (it wins over a label that says otherwise); login after `._.`; the label
    of AIME or of the earlier DS01; then the folder of a dev container, a bind mount from a home, a compose project's.
    """
    name = str(container.get("Name", "")).lstrip("/")
    config = container.get("Config") or {}
    labels: Mapping[str, str] = config.get("Labels") or {}
    if (uid := uid_in_name(name)) is not None:
        return Owner(uid, _name_of(uid), "uid")
    suffix = name.rpartition(SUFFIX)[2] if SUFFIX in name else ""
    claims = [(suffix, "name-suffix")]
    claims += [(labels.get(key, ""), "label") for key in ("aime.mlc.USER", "aime.mlc", "ds01.user")]
    for login, how in claims:
        found = _account(login)
        if found is not None:
            return Owner(found.pw_uid, found.pw_name, how)
    for folder, how in _folders(container, labels):
        found = _home_owner(folder)
        if found is not None:
            return Owner(found.pw_uid, found.pw_name, how)
    return None


def uid_in_name(name: str) -> int | None:
    """Return the uid that the engine name of a container, volume or network ends with, or None."""
    given, _, suffix = name.rpartition(SUFFIX)
    return int(suffix) if given and _UID.fullmatch(suffix) and int(suffix) <= _UID_MAX else None


def short(name: str, uid: int | None = None) -> str:
    """Return what its owner calls a container, volume or network; with a uid only what is this person's is shortened.

    Every sentence for people has it, because nobody else's things are in the sentences that somebody gets.
    """
    return (name.rpartition(SUFFIX)[0] if uid is None else name.removesuffix(f"{SUFFIX}{uid}")) or name


def uid_in_image(reference: str) -> int | None:
    """Return the uid that a name of an image carries, or None for everybody's."""
    match = OWN_IMAGE.match(reference)
    return int(match[1]) if match else uid_in_name(reference.partition("@")[0])


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _account(login: str) -> pwd.struct_passwd | None:
    try:
        found = pwd.getpwnam(login) if login else None
    except (KeyError, ValueError):
        return None
    # root made it for somebody: that says nothing about whose it is.
    return found if found is not None and found.pw_uid != 0 else None


def _folders(container: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield labels.get("devcontainer.local_folder", ""), "dev-container"
    for mount in container.get("Mounts") or []:
        if mount.get("Type") == "bind":
            yield str(mount.get("Source", "")), "bind"
    yield labels.get("com.docker.compose.project.working_dir", ""), "compose"


def _home_owner(folder: str) -> pwd.struct_passwd | None:
    """Return the person in whose home the folder is, if it also belongs to them."""
    path = Path(folder)
    if not folder or not path.is_absolute():
        return None
    try:
        resolved = path.resolve(strict=True)
        person = pwd.getpwuid(resolved.stat().st_uid)
    except (OSError, KeyError, RuntimeError, ValueError):
        return None  # A label may hold anything, NUL too.
    inside = resolved.is_relative_to(Path(person.pw_dir).resolve())
    return person if person.pw_uid != 0 and person.pw_dir != "/" and inside else None
