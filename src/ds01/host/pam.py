"""Profiles of ours in PAM: what every session of the host goes through. Standard library only.

Compared with what PAM reads, not only with the profile: a run that ended between the two leaves nothing else to notice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..engine.command import Completed, run
from ..files import atomic_write, remove_file
from ..problems import ApplyError

PROFILES: Final = Path("/usr/share/pam-configs")
PAM: Final = Path("/etc/pam.d")
SESSIONS: Final = ("common-session", "common-session-noninteractive")
"""What PAM reads for sessions; pam-auth-update(8) puts what a profile has for sessions into both."""


def lacking(name: str, content: str) -> list[str]:
    """Return what has to be done until each session goes through a profile.

    Args:
        name: Of the profile, a file in `PROFILES`.
        content: What belongs into it.

    Returns:
        Nothing, or sentences for people. Raises OSError.
    """
    profile = PROFILES / name
    steps = [] if profile.is_file() and profile.read_text(encoding="utf-8") == content else [f"write {profile}"]
    return steps + [f"change {PAM / stack}" for stack in SESSIONS if _missing(stack, content)]


def enable(name: str, content: str) -> None:
    """Let each session go through a profile.

    Raises:
        ApplyError: PAM's files were changed by hand, so they are left alone.
        OSError: The profile could not be written.
    """
    atomic_write(PROFILES / name, content, mode=0o644, uid=0, gid=0)
    done = _update("--enable", name)
    for stack in SESSIONS:
        if line := _missing(stack, content):
            fix = "put that back, or run `pam-auth-update --force`; then run site.yml again"
            raise _by_hand(done, stack, f"`{line}` expected", fix)


def installed(name: str) -> bool:
    """Whether there is such a profile."""
    return (PROFILES / name).exists()


def disable(name: str) -> None:
    """Let no session go through a profile any more, and forget it; that it is there shows that it may be in use.

    Raises:
        ApplyError: PAM's files were changed by hand, so they are left alone.
        OSError: The profile could not be read or removed.
    """
    profile = PROFILES / name
    content = profile.read_text(encoding="utf-8")
    done = _update("--remove", name)
    for stack in SESSIONS:
        if any(line in _lines(stack) for line in _demanded(content)):
            fix = f"run `pam-auth-update --force --remove {name}`, then remove.yml again"
            raise _by_hand(done, stack, f"nothing of {name} expected", fix)
    remove_file(profile)


def _update(*arguments: str) -> Completed:
    return run(["env", "DEBIAN_FRONTEND=noninteractive", "pam-auth-update", "--package", *arguments])


def _by_hand(done: Completed, stack: str, expected: str, fix: str) -> ApplyError:
    found = "changed by hand" if done.ok else done.complaint
    return ApplyError(f"{PAM / stack}: {found}: {expected}: {fix}")


def _missing(stack: str, content: str) -> str:
    """Return the first line of a profile that PAM does not read, or nothing."""
    present = _lines(stack)
    return next((" ".join(line) for line in _demanded(content) if line not in present), "")


def _lines(stack: str) -> list[list[str]]:
    return [line.split() for line in (PAM / stack).read_text(encoding="utf-8").splitlines()]


def _demanded(content: str) -> list[list[str]]:
    """Return the lines for sessions: each begins with space, below the heading."""
    _, _, below = content.partition("\nSession:\n")
    return [["session", *line.split()] for line in below.splitlines() if line[:1].isspace()]
